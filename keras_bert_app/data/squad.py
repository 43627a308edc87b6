"""Questions about texts from the files of SQuAD, versions 1.1 and 2.0, and from tables."""

import json
import numbers
import os
from pathlib import Path

from keras_bert_app.data import readers


def read_squad(source, question_column=None, context_column=None, answers_column=None, wanted=True):
    """Questions with their contexts and answers.

    Args:
        source: path of a `.json` file of SQuAD 1.1 or 2.0; or of a `.jsonl` file with `question`, `context`
            and `answers` in each row, and maybe `id`; each also with `.gz`; or an iterable of
            `((question, context), {"answers": [{"text": ..., "answer_start": ...}], "id": ...})`. An answer
            begins at the character `answer_start` of the context; a question without an answer has none. In
            a row, `answers` may also be a dict of the lists `text` and `answer_start`.
        question_column, context_column, answers_column: keys of a `.jsonl` file, if they are others.
        wanted: False if answers may be missing, and an `id` may come twice.

    Returns:
        list of `((question, context), {"id": ..., "answers": [...]})`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is empty, no such file, or a question, context or answer cannot be used; the message
            names the question.
    """
    if not isinstance(source, str | os.PathLike):
        rows = [(f"question {number}", *_parts(row, number)) for number, row in enumerate(source, start=1)]
        source = "the data"
    elif Path(source).name.removesuffix(".gz").endswith(".jsonl"):
        names = question_column or "question", context_column or "context", answers_column or "answers"
        table = readers.read_rows(Path(source), *names[: 3 if wanted else 2])
        rows = [
            (f"{source}, row {number}", *map(row.get, names), row.get("id"))
            for number, row in enumerate(table, start=1)
        ]
    else:
        readers.check_name(Path(source), (".json", ".jsonl"))
        if question_column or context_column or answers_column:
            raise ValueError(f"{source} is a file of SQuAD, which has no columns: leave out their names")
        rows = list(_read_articles(Path(source)))
    if not wanted:
        rows = [(where, question, context, [], name) for where, question, context, _, name in rows]
    examples = [_example(*row, number) for number, row in enumerate(rows)]
    if not examples:
        raise ValueError(f"{source} is empty: give at least one question")
    ids = [target["id"] for _, target in examples]
    if wanted and len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"{source} has two questions with the id {twice!r}: give each its own")
    return examples


def _parts(row, number):
    if not isinstance(row, tuple | list) or len(row) != 2 or not isinstance(row[1], dict):
        raise ValueError(
            f"question {number} is {row!r:.80}: give ((question, context), {{'answers': [...]}})"
        )
    given, target = row
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ValueError(f"question {number} has no context: give ((question, context), ...)")
    return *given, target.get("answers", []), target.get("id")


def _read_articles(path):
    with readers.open_text(path) as file:
        try:
            articles = json.load(file)["data"]
            paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
            for paragraph in paragraphs:
                for question in paragraph["qas"]:
                    where = f"{path}, question {question.get('id')}"
                    if "context" not in paragraph:
                        raise ValueError(f"{where} has no context: repair its paragraph")
                    yield (
                        where,
                        question.get("question"),
                        paragraph["context"],
                        question.get("answers"),
                        question.get("id"),
                    )
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no file of SQuAD ({type(error).__name__}: {error})") from error


def _example(where, question, context, answers, name, number):
    for what, text in (("question", question), ("context", context)):
        readers.check_text(text, f"{where}, {what}")
    if isinstance(answers, dict):
        lists = [list(answers.get(name, ())) for name in ("text", "answer_start")]
        if len(lists[0]) != len(lists[1]):
            raise ValueError(f"{where} has the answers {answers!r:.80}: give as many answer_start as text")
        answers = [{"text": text, "answer_start": start} for text, start in zip(*lists, strict=True)]
    if not isinstance(answers, list):
        raise ValueError(f"{where} has the answers {answers!r:.80}: give a list, empty if there is none")
    for answer in answers:
        if not isinstance(answer, dict) or not isinstance(answer.get("text"), str) or not answer["text"]:
            raise ValueError(f"{where} has the answer {answer!r:.80}: give its text and answer_start")
        start = answer.get("answer_start")
        if not isinstance(start, numbers.Integral) or isinstance(start, bool) or start < 0:
            raise ValueError(
                f"{where} has the answer {answer!r:.80}: answer_start is no place in the context"
            )
    answers = [{"text": answer["text"], "answer_start": int(answer["answer_start"])} for answer in answers]
    return (question, context), {"id": str(number if name is None else name), "answers": answers}


class Questions(list):
    """Questions with their contexts; `ids` are those that the file has for them."""

    def __init__(self, rows, ids):
        super().__init__(rows)
        self.ids = ids


def is_at_its_place(context, answer):
    """Whether the text of an answer is in the context where it says."""
    return context.startswith(answer["text"], answer["answer_start"])
