"""The file of a vocabulary: one token a line, the line's number being the token's id."""

import zlib
from pathlib import Path

PACKAGE = "keras_bert_app"  # under which Keras registers the layers
VOCABULARY_FILE = "vocab.txt"
SUFFIX = "##"  # of a piece that goes on with a word
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_TOKEN_BYTES = 256


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
    lines = {}
    for number, token in enumerate(tokens, start=1):
        where = f"{source}: line {number}"
        if not isinstance(token, str):
            raise ValueError(f"{where} is {token!r} ({type(token).__name__}): every token must be a string")
        if not token.strip(" "):
            raise ValueError(f"{where} is blank: every line must be a token, remove it")
        if token.endswith("\r"):
            raise ValueError(f"{where} ends in a carriage return: save it with one kind of line ends")
        if "\n" in token:
            raise ValueError(f"{where} is {token!r}: a token must be on one line")
        if len(token.encode()) > MAX_TOKEN_BYTES:
            raise ValueError(
                f"{where} has {len(token.encode())} bytes, {token[:20]}...: "
                f"tensorflow-text reads tokens of at most {MAX_TOKEN_BYTES}"
            )
        if token in lines:
            raise ValueError(
                f"{source} holds {token!r} twice, in lines {lines[token]} and {number}: "
                "each line must be another token"
            )
        lines[token] = number
    missing = [token for token in SPECIAL_TOKENS if token not in lines]
    if missing:
        raise ValueError(f"{source} lacks {', '.join(missing)}: it is not the vocabulary of a BERT")


def write_vocabulary(tokens, path):
    """Writes `tokens` to the file `path`."""
    Path(path).write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="")


def checksum(tokens):
    """The CRC-32 of a vocabulary, by which another one is known to be another."""
    return zlib.crc32("\n".join(tokens).encode())
