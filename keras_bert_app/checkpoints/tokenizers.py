"""What a folder says of its tokenizer: the arguments of `BertTokenizer`."""

import json
import re
from pathlib import Path

from keras_bert_app import files
from keras_bert_app.preprocessing.vocabulary_file import SPECIAL_TOKENS, read_vocabulary

# Classes of Transformers that split text as BERT does, where no tokenizer.json says how.
CLASSES = (None, "BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast")
MAX_SPECIAL_TOKENS = 28  # see `BertTokenizer`


def read_json(path, kind=dict):
    """The JSON object, or with `kind=list` the list, in the file `path`.

    Raises:
        ValueError: it is not JSON, or no object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, kind):
        raise ValueError(f"{path} holds no JSON {'object' if kind is dict else 'list'}")
    return value


def casing(lowercase=True, strip_accents=None):
    """What a tokenizer does with case and accents.

    Args:
        lowercase, strip_accents: see `BertTokenizer`.

    Returns:
        dict of bool `lowercase` and `strip_accents`.
    """
    return {"lowercase": lowercase, "strip_accents": lowercase if strip_accents is None else strip_accents}


def from_vocabulary(path):
    """The tokenizer of a vocabulary of Google's, which comes without a word on its casing.

    A vocabulary with a capital letter in a word is cased. (So is the rule of google-research/bert,
    which goes by the names of the models.)

    Args:
        path: of a `vocab.txt`.

    Returns:
        dict with `vocabulary`, the path, and `lowercase`; None if there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        return None
    words = re.compile(r"^(?:##)?[^\W\d_]+$", re.MULTILINE)
    text = path.read_text(encoding="utf-8", errors="replace")
    return {"vocabulary": path, "lowercase": all(w == w.lower() for w in words.findall(text))}


def from_huggingface(folder):
    """The tokenizer of a Hugging Face folder.

    Args:
        folder: holds `tokenizer.json` or else `vocab.txt`, and mostly `tokenizer_config.json`,
            which has the last word on casing.

    Returns:
        dict with `vocabulary`, `lowercase`, `strip_accents` and, if tokens beyond BERT's own were
        added that stand for themselves in a text, `special_tokens`; None if there is no vocabulary.

    Raises:
        ValueError: a file is damaged, or the tokenizer is not one of BERT's.
    """
    folder = Path(folder)
    options, whole = (
        read_json(folder / name) if (folder / name).is_file() else {}
        for name in ("tokenizer_config.json", "tokenizer.json")
    )
    kind = options.get("tokenizer_class")
    if (kind not in CLASSES and not whole) or options.get("do_basic_tokenize") is False:
        raise ValueError(
            f"{folder}: tokenizer_class={kind!r} and do_basic_tokenize="
            f"{options.get('do_basic_tokenize', True)!r}: only BERT's own tokenizer is supported"
        )
    rules = {"lowercase": True}  # as in Transformers
    found = {}
    if whole:
        try:
            found, own_rules = _read_whole(whole, folder / "tokenizer.json")
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{folder / 'tokenizer.json'} is damaged ({error!r}): get it again") from error
        rules.update(own_rules)
    for key, option in (
        ("lowercase", "do_lower_case"),
        ("strip_accents", "strip_accents"),
        ("handle_chinese_chars", "tokenize_chinese_chars"),
    ):
        if options.get(option) is not None:
            rules[key] = options[option]
        if not isinstance(rules.get(key), bool | None):
            raise ValueError(f"{folder}: {option}={rules[key]!r}: it must be true, false or null")
    if rules.get("handle_chinese_chars") is False:
        raise ValueError(
            f"{folder}: tokenize_chinese_chars=False is not supported: Chinese characters are words"
        )
    if not whole and (folder / "vocab.txt").is_file():
        found = _with_added_tokens(folder)
    if "vocabulary" not in found:
        return None
    return {**found, "lowercase": rules["lowercase"], "strip_accents": rules.get("strip_accents")}


def _with_added_tokens(folder):
    """The vocabulary in `vocab.txt`, and what was added to it in `added_tokens.json`."""
    path = folder / "added_tokens.json"
    if not path.is_file():
        return {"vocabulary": folder / "vocab.txt"}
    tokens = read_vocabulary(folder / "vocab.txt")
    added = {token: index for token, index in read_json(path).items() if token not in tokens}
    if sorted(map(str, added.values())) != sorted(str(len(tokens) + i) for i in range(len(added))):
        raise ValueError(f"{path}: its ids do not follow those of vocab.txt, which end at {len(tokens) - 1}")
    new = sorted(added, key=added.get)
    return {"vocabulary": [*tokens, *new], "special_tokens": _check_special(tuple(new), path)}


def _check_special(tokens, path):
    if len(tokens) > MAX_SPECIAL_TOKENS:
        raise ValueError(
            f"{path}: {len(tokens)} tokens were added to its vocabulary, at most {MAX_SPECIAL_TOKENS} can be"
        )
    return tokens


def _read_whole(whole, path):
    """The vocabulary and the rules of a `tokenizer.json`."""
    model, normalizer = whole.get("model") or {}, whole.get("normalizer") or {}
    vocabulary = model.get("vocab")
    prefix = model.get("continuing_subword_prefix", "##")
    if model.get("type", "WordPiece") != "WordPiece" or not isinstance(vocabulary, dict) or prefix != "##":
        raise ValueError(f"{path}: its model is {model.get('type')!r}: BERT's is WordPiece, with '##'")
    if normalizer.get("type") != "BertNormalizer":
        raise ValueError(
            f"{path}: its normalizer is {normalizer.get('type')!r}: only BertNormalizer is supported"
        )
    added = {token["content"]: token["id"] for token in whole.get("added_tokens") or []}
    ids = {**vocabulary, **added}
    special = tuple(token for token in added if token not in SPECIAL_TOKENS)
    tokens = sorted(ids, key=ids.get)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise ValueError(f"{path}: its ids do not go from 0 to {len(tokens) - 1}: each must be one token's")
    found = {"vocabulary": tokens}
    if special:
        found["special_tokens"] = _check_special(special, path)
    rules = {
        k: v for k, v in normalizer.items() if k in ("lowercase", "strip_accents", "handle_chinese_chars")
    }
    limit = model.get("max_input_chars_per_word", 100)
    if limit != 100:
        found["max_input_chars_per_word"] = limit
    return found, rules


def write_huggingface(tokenizer, sequence_length, folder):
    """Writes a tokenizer as Transformers does: `vocab.txt`, `tokenizer.json`, `tokenizer_config.json`.

    Args:
        tokenizer: `BertTokenizer`.
        sequence_length: word pieces of the longest input.
        folder: an existing folder.
    """
    from tokenizers import AddedToken
    from tokenizers.implementations import BertWordPieceTokenizer

    tokenizer.save_assets(folder)
    whole = BertWordPieceTokenizer(
        {token: index for index, token in enumerate(tokenizer.vocabulary)},
        lowercase=tokenizer.lowercase,
        strip_accents=tokenizer.strip_accents,
    )
    whole.add_special_tokens(
        [AddedToken(t, special=True) for t in (*SPECIAL_TOKENS, *tokenizer.special_tokens)]
    )
    whole.save(str(folder / "tokenizer.json"))
    files.write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": tokenizer.lowercase,
            "strip_accents": tokenizer.strip_accents,
            "tokenize_chinese_chars": True,
            "model_max_length": sequence_length,
            **{f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS},
        },
    )
