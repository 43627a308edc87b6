"""A corpus for pretraining: documents one after another, in sentences, in a mixed order."""

import itertools
import re

import numpy as np
from sentencex import segment

from keras_bert_app.data.readers import TEXT_FORMATS, check_name, find_files, open_text, read_texts

DOCUMENTS = ("blank_line", "line", "file")
LONG_SENTENCE = 300  # characters; a speech in a novel is often longer


def read_documents(files, text_column="text", document="blank_line", shard=(0, 1)):
    """Yields the documents of a corpus. One document is kept in memory at a time.

    Args:
        files: a path, a pattern such as `"corpus/*.txt"`, a folder, or a list of these. A folder is
            read with its folders, sorted by name. Files are `.txt`, or tables with a document in each
            row: `.jsonl`, `.csv` or `.tsv`. Each may have `.gz` at its end.
        text_column: name of the column or JSON key of the text in tables.
        document: what a document is in a `.txt` file. `"blank_line"`: it ends at a blank line;
            `"line"`: each line is one; `"file"`: the file is one, as with a novel, which has blank
            lines between its paragraphs.
        shard: `(index, count)`, to yield only the documents whose number, from 0 and modulo `count`, is
            `index`. Run `count` processes, each with its own index, and each document is in one of them.

    Returns:
        iterator of str. Empty documents are left out and not counted, as are halves of characters,
        which JSON can hold.

    Raises:
        FileNotFoundError: no file has such a name.
        ValueError: an option, or the name of a file, cannot be used; while documents are read: a file
            lacks the column, is not UTF-8 or is damaged. The message names the place.

    Example:

    >>> from pathlib import Path
    >>> _ = Path("corpus.txt").write_text("One document.\\nIts second line.\\n\\nAnother one.\\n")
    >>> list(read_documents("corpus.txt"))
    ['One document.\\nIts second line.', 'Another one.']
    >>> list(read_documents("corpus.txt", document="line", shard=(1, 2)))
    ['Its second line.']
    """
    if document not in DOCUMENTS:
        raise ValueError(f"document={document!r}: give one of {', '.join(DOCUMENTS)}")
    if (
        not isinstance(shard, tuple | list)
        or [type(number) for number in shard] != [int, int]
        or not 0 <= shard[0] < shard[1]
    ):
        raise ValueError(f"shard={shard!r}: give (index, count), an index from 0 to count - 1")
    paths = find_files(files)
    if not paths:
        raise FileNotFoundError("there are no files: give a path, a pattern or a folder")
    for path in paths:
        check_name(path, TEXT_FORMATS)
    texts = (text for path in paths for text in _read(path, text_column, document))
    whole_characters = (text.encode("utf-8", "ignore").decode("utf-8") for text in texts)
    return itertools.islice(filter(str.strip, whole_characters), shard[0], None, shard[1])


def _read(path, text_column, document):
    """Yields the documents of one file, empty ones too."""
    if document == "line" or not path.name.removesuffix(".gz").endswith(".txt"):
        yield from read_texts(path, text_column)
        return
    with open_text(path) as file:
        if document == "file":
            yield file.read()
            return
        for _, lines in itertools.groupby(file, key=lambda line: not line.strip()):
            yield "".join(lines).removesuffix("\n")


def split_sentences(document, language="en"):
    """The sentences of a document.

    A line break is a space, so that wrapped lines stay together, but a blank line ends a sentence, as
    after a heading. What stands in quotation marks is one sentence with what is around it, unless it is
    long, as speeches in novels are.

    Args:
        document: str.
        language: its code, such as `"en"`, `"de"` or `"pt-br"`: it decides which abbreviations do not
            end a sentence. A language of which nothing is known is split as English is.

    Returns:
        list of str, without white space around them and without empty ones.

    Raises:
        ValueError: `language` is no code of a language.

    Reference: [wikimedia/sentencex](https://github.com/wikimedia/sentencex)

    Example:

    >>> split_sentences("Chapter 1\\n\\nMr. Smith paid $3.50\\nfor it. Why?")
    ['Chapter 1', 'Mr. Smith paid $3.50 for it.', 'Why?']
    """
    if not re.fullmatch("[a-z]{2,3}(-[a-z0-9]+)*", language):
        raise ValueError(f"language={language!r}: give a code in small letters, such as en, de or pt-br")
    paragraphs = (re.sub(r"[\r\n]\s*", " ", text) for text in re.split(r"\n\s*\n", document))
    sentences = (part for text in paragraphs for part in segment(language, text))
    stripped = (part.strip() for sentence in sentences for part in _split_speech(sentence, language))
    return [sentence for sentence in stripped if sentence]


def _split_speech(sentence, language):
    """The sentences within quotation marks, which `segment` keeps together, if they are many."""
    if len(sentence) <= LONG_SENTENCE:
        return [sentence]
    without_marks = re.sub('["“”]', " ", re.sub(r'(?<!\S)["“]', "—", sentence))  # as long as before
    ends = itertools.accumulate(map(len, segment(language, without_marks)), initial=0)
    return [sentence[start:end] for start, end in itertools.pairwise(ends)]


def shuffled(documents, buffer_size, seed):
    """Yields `documents` in a random order, with at most `buffer_size` of them in memory.

    Each document that comes takes the place of a random one in the buffer, which goes out. So a corpus
    that is sorted by topic mixes as far as the buffer reaches.

    Args:
        documents: iterable of anything.
        buffer_size: documents that are held back; a corpus of no more than these is shuffled as a whole.
        seed: whole number, or a list of them. The same one gives the same order.

    Returns:
        iterator of all `documents`.

    Raises:
        ValueError: `buffer_size` is no whole number of at least 1.

    Example:

    >>> sorted(shuffled("abcde", buffer_size=3, seed=0))
    ['a', 'b', 'c', 'd', 'e']
    """
    if type(buffer_size) is not int or buffer_size < 1:
        raise ValueError(f"buffer_size={buffer_size!r}: give a whole number of at least 1")
    return _shuffled(documents, buffer_size, np.random.default_rng(seed))


def _shuffled(documents, buffer_size, random):
    buffer = []
    for document in documents:
        if len(buffer) < buffer_size:
            buffer.append(document)
            continue
        place = random.integers(buffer_size)
        yield buffer[place]
        buffer[place] = document
    for place in random.permutation(len(buffer)):
        yield buffer[place]
