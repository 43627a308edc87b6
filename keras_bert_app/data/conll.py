"""Tagged sentences from CoNLL files: a word and its tags on each line, a blank line after a sentence."""

import os
from pathlib import Path

from keras_bert_app.data import readers

FORMATS = (".conll", ".conllu", ".txt", ".tsv", ".iob", ".bio", ".iob2")


def read_tagged(source, word_column=None, tag_column=None):
    """Tagged sentences from a file or an iterable.

    Args:
        source: path of a CoNLL file with any of the usual endings, or of a `.jsonl` file with the lists
            `words` and `tags` in each row, each also with `.gz`; or an iterable of `(words, tags)`.
            Columns are parted by tabs, or by spaces. `-DOCSTART-` and, in files with tabs, lines that begin
            with `# ` and have no tab are no words.
        word_column: of a CoNLL file the number of the column with the words, by default `"1"`, of a `.conllu`
            file `"2"`; of a `.jsonl` file its key.
        tag_column: the same of the tags; by default the last column, of a `.conllu` file `"4"`, the parts of
            speech. Its lines for words of several words, and for empty ones, are left out.

    Returns:
        `readers.Examples` of `(words, tags)`, both lists of str of the same length.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, not UTF-8, or a line has too few columns; the message names the line.
    """
    if not isinstance(source, str | os.PathLike):
        rows = [(f"sentence {number}", row) for number, row in enumerate(source, start=1)]
    elif _ends(source, ".jsonl"):
        keys = word_column or "words", tag_column or "tags"
        table = enumerate(readers.read_rows(Path(source), *keys), start=1)
        rows = [(f"{source}, row {number}", tuple(row[key] for key in keys)) for number, row in table]
    else:
        readers.check_name(Path(source), FORMATS)
        rows = list(_read_sentences(Path(source), word_column, tag_column))
    for where, row in rows:
        _check(row, where)
    if not rows:
        raise ValueError(f"{source if isinstance(source, str | os.PathLike) else 'the data'} is empty")
    examples = [(list(words), list(tags)) for _, (words, tags) in rows]
    return readers.Examples(examples, places=[where for where, _ in rows])


def read_words(source, word_column=None):
    """The words of the sentences of a file, which need no tags: see `read_tagged`.

    Returns:
        list of lists of str.
    """
    path = Path(source)
    if _ends(path, ".jsonl"):
        key = word_column or "words"
        found = [
            (f"{path}, row {n}", row[key]) for n, row in enumerate(readers.read_rows(path, key), start=1)
        ]
    else:
        readers.check_name(path, FORMATS)
        found = [
            (where, words) for where, (words, _) in _read_sentences(path, word_column, None, tagged=False)
        ]
    for where, words in found:
        check_words(words, where)
    return [list(words) for _, words in found]


def _ends(source, ending):
    return Path(source).name.removesuffix(".gz").endswith(ending)


def _read_sentences(path, word_column, tag_column, tagged=True):
    """Yields where each sentence begins, and its words and tags."""
    conllu = _ends(path, ".conllu")
    word = _index(word_column, 1 if conllu else 0)
    tag = _index(tag_column, 3 if conllu else -1) if tagged else word
    with readers.open_text(path) as file:
        lines = file.readlines()
    tabs = any("\t" in line.strip() for line in lines)
    words, tags, first, width = [], [], "", None
    for number, line in enumerate([*lines, ""], start=1):
        where = f"{path}, line {number}"
        if tabs and line.startswith("# ") and "\t" not in line:
            continue
        if not line.strip() or line.startswith("-DOCSTART-"):
            if words:
                yield first, (words, tags)
            words, tags = [], []
            continue
        fields = line.rstrip("\n").split("\t") if tabs else line.split()
        width = width or (len(fields), number)
        wanted = max(word + 1, tag + 1, 2 if tagged else 1)
        if len(fields) < wanted:
            raise ValueError(
                f"{where}: {line.strip()!r:.80} has {len(fields)} columns, not {wanted}: repair the line, "
                "or name the columns of words and tags by their numbers"
            )
        if len(fields) != width[0]:
            raise ValueError(
                f"{where}: {line.strip()!r:.80} has {len(fields)} columns, line {width[1]} has {width[0]}: "
                "repair the one that is wrong"
            )
        if conllu and not fields[0].isdecimal():
            continue
        if not words:
            first = where
        words.append(fields[word])
        tags.append(fields[tag])


def _index(column, default):
    if column is None:
        return default
    if not column.isdecimal() or int(column) < 1:
        raise ValueError(f"the column {column!r} of a CoNLL file: give its number, from 1")
    return int(column) - 1


def _check(row, where):
    """Raises ValueError unless `row` is a list of words and one of as many tags."""
    if (
        not isinstance(row, tuple | list)
        or len(row) != 2
        or not all(isinstance(x, list | tuple) for x in row)
    ):
        raise ValueError(f"{where}: {row!r:.80} is no pair of a list of words and a list of tags")
    words, tags = row
    if len(words) != len(tags):
        raise ValueError(f"{where} has {len(words)} words and {len(tags)} tags: give one tag for each word")
    check_words(words, where)
    for number, tag in enumerate(tags, start=1):
        if not isinstance(tag, str) or not tag.strip():
            raise ValueError(f"{where}, word {number}: the tag is {tag!r}: give a name")


def check_words(words, where):
    """Raises ValueError unless `words` is a list of str, none empty, and has at least one."""
    if not words:
        raise ValueError(f"{where} has no words: leave it out")
    for number, word in enumerate(words, start=1):
        if not isinstance(word, str) or not word.strip():
            raise ValueError(f"{where}, word {number}: the word is {word!r}: give a string that is not empty")
        readers.utf8_bytes(word, f"{where}, word {number}")
