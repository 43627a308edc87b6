"""Texts with several continuations, or questions with several answers, from tables."""

import re
from pathlib import Path

from keras_bert_app.data import readers

CHOICE = r"(ending|choice|answer|option)_?(\d+)"
SWAG = ("sent1", "sent2")  # the text, and how every choice begins


def read_choices(source, text_column=None, begin_column=None, label_column="label", wanted=True):
    """Texts with their choices.

    Args:
        source: path of a `.csv`, `.tsv` or `.jsonl` file, each also with `.gz`; or an iterable of
            `((text, [choice, choice, ...]), index)`. In a table each choice has a column, `ending0`,
            `ending1` and so on, as in SWAG, or `choice`, `answer` or `option` with a number; in JSONL they
            may also be a list under `choices`.
        text_column: name of the column of the text. Defaults to `sent1`, as in SWAG, or else `text`.
        begin_column: name of the column of what stands before every choice. Defaults to `sent2` where the
            text is in `sent1`, and otherwise there is none.
        label_column: name of the column of the index of the right choice, from 0.
        wanted: False if there need be no label.

    Returns:
        `readers.Examples` of `((text, [choice, ...]), index)`, the index None if it is not wanted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, lacks a column, or a text, choice or label cannot be used; the message names
            the row.
    """
    is_path = isinstance(source, readers.PATHS)
    name = source if is_path else "the data"
    if is_path:
        columns = text_column, begin_column, label_column
        examples = list(_read(Path(source), *columns, wanted))
    else:
        rows = enumerate(source, start=1)
        examples = [check_choice(row, f"{name}, row {number}", wanted) for number, row in rows]
    if not examples:
        raise ValueError(f"{name} is empty: give at least one row")
    return readers.Examples(examples, name)


def _read(path, text_column, begin_column, label_column, wanted):
    for number, row in enumerate(readers.read_rows(path, *([label_column] if wanted else [])), start=1):
        where = f"{path}, row {number}"
        text = text_column or (SWAG[0] if SWAG[0] in row else "text")
        begin = begin_column or (SWAG[1] if text == SWAG[0] and SWAG[1] in row else None)
        for column in (text, *([] if begin is None else [begin])):
            if column not in row:
                raise ValueError(f"{where}: there is no {column!r} (found: {', '.join(map(str, row))})")
        choices = _columns_of_choices(row, where) if row.get("choices") is None else row["choices"]
        if begin is not None and isinstance(choices, list):
            choices = [f"{row[begin]} {choice}".strip() for choice in choices]
        label = row.get(label_column) if wanted else None
        if isinstance(label, str) and re.fullmatch(r"\d+", label.strip()):
            label = int(label)
        yield check_choice(((row[text], choices), label), where, wanted)


def _columns_of_choices(row, where):
    """What stands in the columns of the choices, without the empty ones at the end."""
    found = {name: re.fullmatch(CHOICE, name, re.IGNORECASE) for name in row if isinstance(name, str)}
    found = {name: (match[1].lower(), int(match[2])) for name, match in found.items() if match}
    if len({kind for kind, _ in found.values()}) > 1:
        raise ValueError(f"{where} has choices under several names, {', '.join(found)}: leave some out")
    names = sorted(found, key=found.get)
    while names and not row[names[-1]]:
        names.pop()
    for name in names:
        if not row[name]:
            raise ValueError(f"{where}: {name} is empty, but {names[-1]} is not: fill it")
    return [row[name] for name in names]


def check_choice(example, where, wanted=True):
    """The example `((text, [choice, ...]), index)`, if it can be used.

    Raises:
        ValueError: it is none, or a part of it cannot be used; the message names `where`.
    """
    if not isinstance(example, tuple | list) or len(example) != 2:
        raise ValueError(
            f"{where}: {example!r:.80} is no pair of (text, choices) and the index of the right one"
        )
    text, choices = check_input(example[0], where)
    label = example[1].tolist() if hasattr(example[1], "tolist") else example[1]  # a NumPy number
    if wanted and (type(label) is not int or not 0 <= label < len(choices)):
        raise ValueError(
            f"{where}: the label is {label!r}: give the index of the right choice, "
            f"from 0 to {len(choices) - 1}"
        )
    return (text, choices), label if wanted else None


def check_input(given, where):
    """The tuple of a text and its list of choices, if both can be used."""
    if not isinstance(given, tuple | list) or len(given) != 2 or not isinstance(given[1], tuple | list):
        raise ValueError(f"{where} is {given!r:.80}: give (text, [choice, choice, ...])")
    text, choices = given
    readers.check_text(text, f"{where}, text")
    if len(choices) < 2:
        raise ValueError(f"{where} has {len(choices)} choices: give at least two")
    for index, choice in enumerate(choices):
        readers.check_text(choice, f"{where}, choice {index}")
    return text, list(choices)
