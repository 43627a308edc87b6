"""The file of a vocabulary: one token a line, the line's number being the token's id."""

from collections import Counter
from pathlib import Path

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def read_vocabulary(path):
    """The tokens in the file `path`.

    Lines may end as Windows ends them, if all do.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no vocabulary {path}: give the path of a vocab.txt")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
    # Only "\n" ends a line: Google's Chinese vocabulary has U+2028 as a token.
    lines = text.removesuffix("\n").split("\n")
    if all(line.endswith("\r") for line in lines[:-1]) and len(lines) > 1:
        lines = [line.removesuffix("\r") for line in lines]
    return lines


def check_vocabulary(tokens, source):
    """Raises ValueError, naming `source`, unless `tokens` can be the vocabulary of a BERT."""
    for number, token in enumerate(tokens, start=1):
        if not token:
            raise ValueError(f"{source}: line {number} is blank: every line must be a token, remove it")
        if token.endswith("\r"):
            raise ValueError(
                f"{source}: line {number} ends in a carriage return: save it with one kind of line ends"
            )
    missing = [token for token in SPECIAL_TOKENS if token not in set(tokens)]
    if missing:
        raise ValueError(f"{source} lacks {', '.join(missing)}: it is not the vocabulary of a BERT")
    if len(set(tokens)) < len(tokens):
        twice, _ = Counter(tokens).most_common(1)[0]
        first = tokens.index(twice)
        second = tokens.index(twice, first + 1)
        raise ValueError(
            f"{source} holds {twice!r} twice, in lines {first + 1} and {second + 1}: "
            "each line must be another token"
        )


def write_vocabulary(tokens, path):
    """Writes `tokens` to the file `path`."""
    Path(path).write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="")
