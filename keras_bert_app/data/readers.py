"""Labelled texts from the formats that people keep them in, as lists of `(text, label)`."""

import contextlib
import csv
import glob
import gzip
import io
import json
import math
import os
import re
import zlib
from pathlib import Path

PATHS = (str, os.PathLike)
FORMATS = (".csv", ".tsv", ".jsonl")
TEXT_FORMATS = (".txt", *FORMATS)
# BERT reads the first few hundred words. A text this long is a file read as one text, mostly
# because a quotation mark is missing.
MAX_TEXT_BYTES = 1_000_000
NO_NUMBERS = {"nan", "inf", "infinity"}  # without a sign


class Examples(list):
    """Examples that know where each was read.

    Args:
        rows: the examples.
        source: the file, if each is a row of it.
        places: otherwise for each where it is, such as `"train.conll, line 7"`.
    """

    def __init__(self, rows, source=None, places=None):
        super().__init__(rows)
        self.source = source
        self.places = places

    def where(self, number):
        """The place of an example, whose number counts from 1."""
        return f"{self.source}, row {number}" if self.places is None else self.places[number - 1]


def place(examples, number, kind="row"):
    """Where an example is, for messages: its number, from 1, and its file, if it is known."""
    return examples.where(number) if hasattr(examples, "where") else f"{kind} {number}"


def read_labelled(source, text_column="text", label_column="label", pair_column=None, label_separator=None):
    """Labelled texts from a file, a folder or an iterable.

    Args:
        source: path of a `.csv`, `.tsv` or `.jsonl` file, each also with `.gz`; path of a
            folder with one folder of `.txt` files for each class; or an iterable of
            `(text, label)`, for pairs of texts of `((text, text), label)`.
        text_column: name of the column or JSON key of the text. In a file without a line of names the
            number of the column, from `"1"`.
        label_column: name of the column or JSON key of the label.
        pair_column: name of the column or JSON key of the second text of a pair.
        label_separator: what is between the labels of a text in a file that has any number of them, such as
            `"|"`. In JSONL they may be a list.

    Returns:
        list of `(text, label)`, for pairs `((text, text), label)`; the label a str, an int or, if it is not
        whole, a float, or a list of these. CSV and TSV have no types: their labels are all numbers if every
        one is, otherwise all str. White space around a label is no part of it.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: it is empty, lacks a column, is not UTF-8, or holds a text or label that
            cannot be used; the message names the place.
    """
    if not isinstance(source, PATHS):
        return check_labelled(source, "the data")
    path = Path(source)
    if path.is_dir():
        return check_labelled(read_class_folders(path), path)
    columns = [text_column, label_column, *([] if pair_column is None else [pair_column])]
    rows = []
    for row in read_rows(path, *columns):
        text = row[text_column] if pair_column is None else (row[text_column], row[pair_column])
        rows.append((text, row[label_column]))
    if label_separator is not None:
        rows = _split_labels(rows, label_separator)
    elif not path.name.removesuffix(".gz").endswith(".jsonl"):
        rows = with_typed_labels(rows, path)
    return check_labelled(rows, path)


def find_files(files):
    """The files that paths, patterns and folders name.

    Args:
        files: a path, a pattern such as `"corpus/*.txt"`, a folder, or a list of these. A folder
            gives the `.txt`, `.csv`, `.tsv` and `.jsonl` files in it and in its folders, also with `.gz`.

    Returns:
        list of `Path`, in the order of `files`; those of a pattern or folder sorted by name, each once.

    Raises:
        FileNotFoundError: one of `files` names no file.
    """
    found = []
    for pattern in [files] if isinstance(files, PATHS) else files:
        names = [pattern] if os.path.exists(pattern) else sorted(glob.glob(str(pattern), recursive=True))
        if not names:
            raise FileNotFoundError(f"there is no file {pattern}: check the path or pattern")
        paths = {path: None for name in names for path in _files_of(name)}
        if not paths:
            raise FileNotFoundError(f"{pattern} holds no {', '.join(TEXT_FORMATS)} file: check the folder")
        found += paths
    return found


def _files_of(name):
    """The path `name`, or the files with text in the folder of that name; hidden ones are no part of it."""
    if not os.path.isdir(name):
        return [Path(name)]
    inside = sorted(map(Path, glob.glob(os.path.join(glob.escape(str(name)), "**"), recursive=True)))
    return [p for p in inside if p.is_file() and p.name.removesuffix(".gz").endswith(TEXT_FORMATS)]


def read_texts(source, text_column="text"):
    """Yields the texts of a file: a column of a table as in `read_labelled`, or each line of a `.txt`.

    Args:
        source: path of a `.csv`, `.tsv`, `.jsonl` or `.txt` file, each also with `.gz`.
        text_column: name of the column or JSON key.

    Raises:
        FileNotFoundError, ValueError: as `read_labelled`.
    """
    path = Path(source)
    if path.name.removesuffix(".gz").endswith(".txt"):
        with open_text(path, newline="\n") as file:
            yield from (line.rstrip("\r\n") for line in lines(file))
        return
    check_name(path, TEXT_FORMATS)
    for number, row in enumerate(read_rows(path, text_column), start=1):
        text = row[text_column]
        if not isinstance(text, str):
            raise ValueError(
                f"{path}, row {number}: the text is {text!r:.80} ({type(text).__name__}): "
                "put quotation marks around it"
            )
        yield text


def lines(file):
    """Yields the lines of a file that is opened with `newline="\\n"`, with their ends.

    A text may hold a `\\r`; only where there is no `\\n` in the file, as on old Macs, it ends a line.
    """
    for number, line in enumerate(file):
        yield from [line] if number or line.endswith("\n") else io.StringIO(line, newline="")


def read_pairs(source, first_column, second_column):
    """The pairs of texts in two columns of a table, list of tuples of two.

    Raises:
        FileNotFoundError, ValueError: as `read_labelled`.
    """
    path = Path(source)
    rows = read_rows(path, first_column, second_column)
    pairs = [
        check_pair((row[first_column], row[second_column]), f"{path}, row {number}")
        for number, row in enumerate(rows, start=1)
    ]
    if not pairs:
        raise ValueError(f"{path} is empty: give at least one pair")
    return pairs


def check_name(path, formats):
    """Raises ValueError unless the name of the file ends in one of `formats`, or one and `.gz`."""
    if not path.name.removesuffix(".gz").endswith(formats):
        raise ValueError(f"{path}: the name must end in {', '.join(formats)}, or one of them and .gz")


def read_rows(path, *columns):
    """Yields the rows of a table as dicts that hold at least `columns`.

    TSV is read without quotation marks, as the GLUE files are written; CSV with them. If all `columns` are
    numbers, they count the columns of a file without a line of names, from 1.
    """
    check_name(path, FORMATS)
    name = path.name.removesuffix(".gz")
    csv.field_size_limit(2**31 - 1)  # the 128 KiB of the csv module are less than a long review has
    with open_text(path, newline="\n") as opened:
        file, number = lines(opened), 0
        if name.endswith(".jsonl"):
            rows = (json.loads(line) for line in file if line.strip())
        else:
            is_tsv = name.endswith(".tsv")
            options = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if is_tsv else {"strict": True}
            if columns and all(column.isdecimal() for column in columns):  # there is no line of names
                rows = (
                    {str(n): field for n, field in enumerate(fields, start=1)}
                    for fields in csv.reader(file, **options)
                    if fields
                )
            else:
                rows = csv.DictReader(file, **options)
        try:
            _check_unique(getattr(rows, "fieldnames", None) or [], path)
            for number, row in enumerate(rows, start=1):
                _check_row(row, columns, f"{path}, row {number}", is_tsv=name.endswith(".tsv"))
                yield row
        except (csv.Error, json.JSONDecodeError) as error:
            message = f"{error}. Repair that row"
            if "new-line character" in str(error):
                message = "a carriage return (\\r) is within a text: make it a line end or a space"
            raise ValueError(f"{path}, after row {number}: {message}") from error


def _check_unique(names, path):
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has two columns with the name {twice[0]!r}: give each its own")


def _check_row(row, columns, where, is_tsv):
    """Raises ValueError if a row of a table has too many fields or lacks one of `columns`."""
    if isinstance(row, dict) and None in row:
        remedy = "Put quotation marks around a text with a comma in it"
        if is_tsv:
            remedy = "Put a space in the place of a tab in a text: TSV is read without quotation marks"
        raise ValueError(
            f"{where}: there are more fields than columns, the first too many is {row[None][0]!r:.80}. "
            f"{remedy}"
        )
    for column in columns:
        if isinstance(row, dict) and column in row and row[column] is None:
            raise ValueError(f"{where}: {column!r} has no value: fill it, or leave the row out")
        if not isinstance(row, dict) or column not in row:
            found = ", ".join(map(str, row)) if isinstance(row, dict) else repr(row)
            raise ValueError(
                f"{where}: there is no {column!r} (found: {found}). "
                "Name the column: --text-column, --label-column or --pair-column"
            )


@contextlib.contextmanager
def open_text(path, newline=None):
    """Opens a UTF-8 file, gzip or not; errors name the path."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: check the path")
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        likely = "utf-16" if error.start == 0 and byte in b"\xff\xfe" else "latin1"
        raise ValueError(
            f"{path} is not UTF-8: byte 0x{byte:02x}. "
            f"Convert it, for example: iconv -f {likely} -t utf-8 {path.name}"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): get it again") from error


def read_class_folders(path):
    """`(text, label)` from a folder of folders of `.txt` files, each folder named by its label.

    This is the layout of `aclImdb/train`; its `unsup` folder, which has no labels, is left out.

    Raises:
        ValueError: there are no such folders, or a file is not UTF-8.
    """
    folders = sorted(p for p in path.iterdir() if p.is_dir() and p.name != "unsup")
    rows = []
    for folder in folders:
        for file in sorted(folder.glob("*.txt")):
            with open_text(file) as opened:
                rows.append((opened.read(), folder.name))
    if not rows:
        raise ValueError(f"{path} holds no folders with .txt files: give one folder for each label")
    return rows


def with_typed_labels(rows, path):
    """`rows` with int labels if every label is a whole number, float if every one is a number.

    Raises:
        ValueError: all are numbers but some that are infinite or not a number.
    """
    rows = [(text, label.strip()) for text, label in rows]
    labels = {label for _, label in rows}
    finite = {label for label in labels if label.lower().lstrip("+-") not in NO_NUMBERS}
    for convert, pattern in (
        (int, r"0|-?[1-9][0-9]*"),
        (float, r"[+-]?(0|[1-9][0-9]*)?(\.[0-9]*)?(e[+-]?[0-9]+)?"),
    ):
        # 01 is a name
        if not finite or not all(re.fullmatch(pattern, label.lower()) for label in finite):
            continue
        try:
            numbers = {label: convert(label) for label in finite}
        except ValueError:  # such as a point alone
            continue
        for number, (_, label) in enumerate(rows, start=1):
            if label not in numbers:
                raise ValueError(
                    f"{path}, row {number}: the label is {label!r}, all others are numbers: give a number, "
                    "or leave the row out"
                )
        return [(text, numbers[label]) for text, label in rows]
    return rows


def _split_labels(rows, separator):
    """`rows` with the list of what is between the separators in the place of each label that is a str."""
    parted = []
    for text, label in rows:
        if isinstance(label, str):
            label = [part.strip() for part in label.split(separator) if part.strip()]
        parted.append((text, label))
    return parted


def check_labelled(rows, source):
    """The `Examples` of `rows`, if every one is a usable text, or pair of texts, with a label.

    Raises:
        ValueError: there are no rows, or one is not usable; the message names it.
    """
    checked = []
    for number, row in enumerate(rows, start=1):
        where = f"{source}, row {number}"
        if not isinstance(row, tuple | list) or len(row) != 2:
            raise ValueError(f"{where}: {row!r:.80} is no pair of text and label")
        text, label = row
        if isinstance(text, tuple | list):
            text = check_pair(text, where)
        else:
            check_text(text, where)
        label = label.tolist() if hasattr(label, "tolist") else label  # a NumPy number or array
        if isinstance(label, tuple | list):
            label = [_check_label(one, where) for one in label]
            twice = [one for one in label if label.count(one) > 1]
            if twice:
                raise ValueError(
                    f"{where} has the label {twice[0]!r} more than once: give the labels that the text has, "
                    "not a 0 or 1 for each"
                )
        else:
            label = _check_label(label, where)
        checked.append((text, label))
    if not checked:
        raise ValueError(f"{source} is empty: give at least one row")
    return Examples(checked, source)


def _check_label(label, where):
    """The label as a str, an int, or a finite float that is not whole."""
    label = label.strip() if isinstance(label, str) else label
    finite = type(label) is str or (type(label) in (int, float) and math.isfinite(label))
    if not finite or label == "":
        raise ValueError(f"{where}: the label is {label!r}: give a name or a number")
    return int(label) if type(label) is float and label.is_integer() else label


def pair_of(texts):
    """The list with the pair that two texts of a command line are.

    Raises:
        ValueError: they are not two.
    """
    if len(texts) != 2:
        raise ValueError(f"give two texts, {len(texts)} are given, or give --file")
    return [tuple(texts)]


def check_pairs(pairs):
    """The list of pairs, each a tuple of two texts, a tuple of str being a list of one.

    Raises:
        ValueError: one is no pair of texts that can be used; the message names its index.
    """
    alone = isinstance(pairs, tuple) and all(isinstance(text, str) for text in pairs)
    pairs = [pairs] if alone or isinstance(pairs, str) else list(pairs)
    return [check_pair(pair, f"pair {index}") for index, pair in enumerate(pairs)]


def check_pair(pair, where):
    """The tuple of two texts, if each can be used."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(f"{where} is {pair!r:.80}: give two texts, (first, second)")
    for place, text in zip(("first", "second"), pair, strict=True):
        check_text(text, f"{where}, {place}")
    return tuple(pair)


def check_texts(texts):
    """The list of `texts`, a str being a list of one, if each can be used.

    Raises:
        ValueError: one is no text, empty or too long; the message names its index.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    for index, text in enumerate(texts):
        check_text(text, f"text {index}")
    return texts


def check_text(text, where):
    """Raises ValueError, naming `where`, unless `text` is a str that is neither empty nor huge."""
    if not isinstance(text, str):
        raise ValueError(f"{where}: the text is {text!r:.80} ({type(text).__name__}): give a string")
    if not text.strip():
        raise ValueError(f"{where}: the text is empty: leave it out")
    size = utf8_bytes(text, where)
    if size >= MAX_TEXT_BYTES:
        raise ValueError(
            f"{where}: the text has {size:,} bytes, the limit is {MAX_TEXT_BYTES:,}: "
            "split it, or look for a missing quotation mark"
        )


def utf8_bytes(text, where):
    """The number of bytes of a text, or an error, naming `where`, if it has half a surrogate pair."""
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: the text has half a character, {text[error.start]!r}: write it again"
        ) from error
