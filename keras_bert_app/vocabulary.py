"""A vocabulary of word pieces learned from text."""

import itertools
from collections import Counter
from pathlib import Path

from keras_bert_app.data import readers
from keras_bert_app.files import whole
from keras_bert_app.preprocessing.vocabulary_file import (
    MAX_TOKEN_BYTES,
    SPECIAL_TOKENS,
    check_vocabulary,
    write_vocabulary,
)


def train_vocabulary(
    files=(),
    texts=(),
    output=None,
    size=30_000,
    lowercase=True,
    strip_accents=None,
    reserved_tokens=(),
    min_frequency=2,
    limit_alphabet=None,
    text_column="text",
):
    """Learns word pieces from text, for `BertTokenizer` with the same casing.

    The texts are gone through twice, one at a time: only the distinct words are kept in memory. The
    same texts give the same vocabulary.

    Args:
        files: a path or a list of them, each a `.txt` (a text on each line), `.jsonl`, `.csv` or
            `.tsv` file, also with `.gz`, or a pattern such as `"corpus/*.txt"`.
        texts: list, or another iterable that can be gone through twice, of str.
        output: the `vocab.txt` to be written, if any.
        size: tokens of the vocabulary; fewer if the texts do not give so many.
        lowercase: as of `BertTokenizer`.
        strip_accents: as of `BertTokenizer`.
        reserved_tokens: tokens that come after the special ones, such as `"[unused0]"`.
        min_frequency: how often two pieces must stand together to be joined.
        limit_alphabet: most different characters; rarer ones are unknown. Defaults to 1000, or to
            as many as make up 99.95 % of the text if these are more, as in Chinese.
        text_column: name of the column or JSON key of the text.

    Returns:
        list of tokens: `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]`, `[MASK]`, the reserved ones, all
        characters, and the pieces, frequent ones first. Words of over 100 characters, which become
        `[UNK]`, are not learned from, and pieces of over 256 bytes, which no tokenizer reads, left out.

    Raises:
        FileNotFoundError: no file has such a name.
        IsADirectoryError: `output` is a folder.
        TypeError: a text is no string.
        ValueError: a file or an option cannot be used, there is no text, or `size` is less than
            the special tokens and the alphabet.

    Reference: the trainer of [huggingface/tokenizers](https://github.com/huggingface/tokenizers);
    99.95 % is the `character_coverage` of [google/sentencepiece](https://github.com/google/sentencepiece).

    Example:

    >>> tokens = train_vocabulary(texts=["a film, a great film", "great films"], size=30)
    >>> tokens[:5], "film" in tokens, "##s" in tokens
    (['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'], True, True)
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    for name, value, least in (
        ("size", size, 1),
        ("min_frequency", min_frequency, 0),
        ("limit_alphabet", limit_alphabet, 1),
    ):
        if value is not None and (type(value) is not int or value < least):
            raise ValueError(f"{name}={value!r}: give a whole number of at least {least}")
    for name, value in (("texts", texts), ("reserved_tokens", reserved_tokens)):
        if isinstance(value, str):
            raise ValueError(f"{name}={value!r:.80}: give a list of strings")
    if iter(texts) is texts:
        raise ValueError("texts can be gone through only once: give a list, or files")
    if output is not None and Path(output).is_dir():
        raise IsADirectoryError(f"{output} is a folder: give the path of a file in it, such as vocab.txt")
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=strip_accents)
    # A long word is [UNK] to a tokenizer, and takes the trainer a time that grows with its square.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Split(Regex(".{101,}"), "removed")]
    )
    paths = readers.find_files(files)
    alphabet = _alphabet(_read(paths, texts, text_column), tokenizer, limit_alphabet)
    if not alphabet:
        raise ValueError("there is no text to learn from: give files or texts with words in them")
    # The trainer numbers what it does not know in a random order, and equal counts go by number.
    inner = [f"##{c}" for c in alphabet if len(tokenizer.pre_tokenizer.pre_tokenize_str(f"a{c}")) == 1]
    known = [*SPECIAL_TOKENS, *reserved_tokens, *alphabet, *inner]
    check_vocabulary(known, "the vocabulary, of special tokens, reserved_tokens and characters,")
    if size < len(known):
        raise ValueError(
            f"size={size!r} is less than the special tokens and the {len(alphabet)} characters of the texts "
            f"need, {len(known)}: give more, or a lower limit_alphabet"
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=known,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_read(paths, texts, text_column), trainer)
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    tokens = [token for token in tokens if len(token.encode()) <= MAX_TOKEN_BYTES]
    if output is not None:
        with whole(output) as temporary:
            write_vocabulary(tokens, temporary)
    return tokens


def _read(paths, texts, text_column):
    """Yields the texts of the files and the others, without the halves of characters that JSON can hold."""
    for path in paths:
        for text in readers.read_texts(path, text_column):
            yield text.encode("utf-8", "ignore").decode("utf-8")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {index} is {text!r:.80} ({type(text).__name__}): give a string")
        yield text.encode("utf-8", "ignore").decode("utf-8")


def _alphabet(texts, tokenizer, limit):
    """The most frequent characters that words are made of, sorted."""
    raw = Counter()
    for text in texts:
        raw.update(text)
    counts = Counter()
    for character, number in raw.items():
        for part in tokenizer.normalizer.normalize_str(character):
            if not part.isspace():
                counts[part] += number
    frequent = sorted(counts, key=lambda c: (-counts[c], c))
    if limit is None:
        covered = itertools.accumulate(counts[c] for c in frequent)
        limit = max(1000, 1 + sum(number < 0.9995 * counts.total() for number in covered))
    return sorted(frequent[:limit])
