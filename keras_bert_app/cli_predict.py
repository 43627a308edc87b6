"""`keras-bert predict`: answers of a fine-tuned model, or of a pretrained one with its heads."""

import io
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from keras_bert_app.quiet import quiet_import

TaskOption = Annotated[
    list[str] | None, typer.Option(help="An option of the task, such as threshold=0.3; may be repeated.")
]


def predict(
    folder: Annotated[
        str | None,
        typer.Argument(
            help="Run folder of finetune, or a handle of a fine-tuned BERT; with --task the first text.",
            show_default=False,
        ),
    ] = None,
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Texts.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Texts from CSV, TSV, JSONL, or .txt with one on each line, also .gz; pairs from two "
            "columns; questions also from a file of SQuAD, words from CoNLL."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="What a BERT can without fine-tuning: fill-mask guesses the word that stands for each "
            "[MASK] in a text; next-sentence says how probable it is that the second of two texts "
            "follows the first; sentence-similarity says how alike two texts are; multiple-choice is for "
            "the handle of a BERT that somebody has trained for it."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="With --task: short name, address, folder or archive of a BERT; "
            "by default bert_mini_reviews, which comes with the package."
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Of fill-mask: guesses for each [MASK]; by default 5.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts that go through the model together.")] = 32,
    text_column: Annotated[
        str | None,
        typer.Option(
            help="Column or JSON key of the text, or of the first of two; by default text, question or sent1."
        ),
    ] = None,
    pair_column: Annotated[
        str | None,
        typer.Option(help="Column or JSON key of the second of two texts; by default text_pair or context."),
    ] = None,
    option: TaskOption = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Ask a model that is served, such as http://localhost:8501/v1/models/reviews, in the place "
            "of a run folder."
        ),
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="With --url: file with a token to be sent.")] = None,
):
    """Answer texts, as JSON lines. Without TEXT and --file, each line of standard input is one.

    keras-bert predict runs/reviews "A great film!"

    keras-bert predict --task fill-mask "The film was [MASK]."

    keras-bert predict --task next-sentence "He opened the door." "Then he went in."

    keras-bert predict --url http://localhost:8501/v1/models/reviews "A great film!"
    """
    texts = list(texts or ())
    given = {"text": text_column, "pair": pair_column}
    columns = {what: name for what, name in given.items() if name is not None}
    options = options_of(option) | ({} if top_k is None else {"top_k": top_k})
    inputs = None
    if url is not None:
        if task is not None or model is not None or options:
            raise ValueError("--url takes neither --task nor --model nor options: the server has its model")
        texts = texts if folder is None else [folder, *texts]
        return _ask_server(url, token_file, texts, file, columns, batch_size)
    if task is not None:
        if model is None and folder is not None and Path(folder).is_dir():
            raise ValueError(f"{folder} is a folder: with --task give a model as --model {folder}")
        texts = texts if folder is None else [folder, *texts]  # there is no run folder: all are texts
        quiet_import()
        from keras_bert_app.tasks import get_task

        inputs = _inputs(get_task(task, **options), texts, file, columns)  # what is wrong is said first
    elif folder is None:
        raise ValueError("give the run folder of a fine-tuned model, or --task for a pretrained one")
    elif model is not None:
        raise ValueError(f"--model {model} needs --task: a fine-tuned model is the first argument")
    quiet_import()
    from keras_bert_app.loading import load
    from keras_bert_app.tasks import named

    loaded = load(model if task is not None else folder, task=task, options=options)
    if inputs is None:
        inputs = _inputs(loaded.task, texts, file, columns)
    loaded.is_asked_once = True
    parts = (named(loaded.task, given) for given in inputs)
    _print_answers(inputs, parts, loaded(inputs, batch_size))


def _print_answers(inputs, parts, answers):
    """A JSON line for each input: its id, if the file has any, its parts and its answer."""
    ids = [{"id": one} for one in inputs.ids] if hasattr(inputs, "ids") else [{}] * len(inputs)
    for name, part, answer in zip(ids, parts, answers, strict=True):
        print(json.dumps({**name, **part, **answer}, ensure_ascii=False))


# The tasks whose files fit a signature, by its inputs.
TASKS = {
    ("text",): ("text-classification", {}),
    ("text", "text_pair"): ("text-classification", {"pairs": True}),
    ("question", "context"): ("question-answering", {}),
    ("text", "choices"): ("multiple-choice", {}),
}


def _ask_server(url, token_file, texts, file, columns, batch_size):
    """Answers from a server."""
    from keras_bert_app.serving.client import Client

    token = token_file.read_text(encoding="utf-8").strip() if token_file else None
    client = Client(url, batch_size=batch_size, token=token)
    takes = client.signature()["inputs"].keys()
    names = next((names for names in TASKS if set(names) == takes), None)
    if names is None:
        raise ValueError(
            f"{url} takes {', '.join(takes)}: only models that take texts can be asked from here"
        )
    if file:  # it needs the task, which needs TensorFlow; texts alone do not
        quiet_import()
        from keras_bert_app.tasks import get_task

        name, options = TASKS[names]
        inputs = _inputs(get_task(name, **options), texts, file, columns)
    elif len(names) == 1:
        inputs = texts or _read_lines()
    elif len(texts) == 2 or (names[1] == "choices" and len(texts) > 2):
        inputs = [(texts[0], texts[1:] if names[1] == "choices" else texts[1])]
    else:
        raise ValueError(f"{len(texts)} texts: the model takes {' and '.join(names)} together")
    parts = (dict(zip(names, (given,) if len(names) == 1 else given, strict=True)) for given in inputs)
    _print_answers(inputs, parts, client.predict(inputs))


def _inputs(task, texts, file, columns):
    """The inputs of a task from the command line, a file, or standard input."""
    if texts and file:
        raise ValueError("give texts or --file, not both")
    from keras_bert_app.tasks import from_texts

    if not file:
        return from_texts(task, texts or (_read_lines() if len(task.text_inputs) == 1 else texts))
    inputs = task.read_inputs(file, columns)
    if not inputs:
        raise ValueError(f"{file} is empty: give at least one text")
    return inputs


def _read_lines():
    """The lines of standard input."""
    from keras_bert_app.data import readers

    try:
        given = io.StringIO(sys.stdin.buffer.read().decode("utf-8-sig"), newline="\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not UTF-8 ({error}): convert it with iconv") from error
    texts = [line.rstrip("\r\n") for line in readers.lines(given)]
    if not texts:
        raise ValueError("standard input is empty: give at least one text")
    return texts


def options_of(given):
    """The options of a task: what stands after each `=` is JSON, or else a text."""
    options = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not equals:
            raise ValueError(f"--option {one} has no value: write NAME=VALUE, such as stride=128")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def embed(
    handle: Annotated[
        str,
        typer.Argument(
            help="Run folder of finetune sentence-similarity, or a short name, address, folder or archive "
            "of a BERT.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option(help="A .npy file, or .jsonl with the texts too.", show_default=False)
    ],
    file: Annotated[
        Path | None,
        typer.Option(
            help="Texts from CSV, TSV, JSONL, or .txt with one on each line, also .gz; by default the lines "
            "of standard input."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts that go through the model together.")] = 32,
    text_column: Annotated[str, typer.Option(help="Column or JSON key of the text.")] = "text",
):
    """Write a vector for each text, for search and similarity.

    keras-bert embed all-MiniLM-L6-v2 --file articles.csv --output articles.npy
    """
    if output.suffix not in (".npy", ".jsonl"):
        raise ValueError(f"--output {output}: the name must end in .npy or .jsonl")
    from keras_bert_app.data import readers

    texts = list(readers.read_texts(file, text_column)) if file else _read_lines()
    quiet_import()
    import numpy as np

    from keras_bert_app import embedding, files

    vectors = embedding.embed(texts, handle, batch_size)
    with files.whole(output) as temporary, open(temporary, "wb") as opened:
        if output.suffix == ".npy":
            np.save(opened, vectors)
        else:
            for text, vector in zip(texts, vectors, strict=True):
                line = json.dumps({"text": text, "embedding": vector.tolist()}, ensure_ascii=False)
                opened.write(f"{line}\n".encode())
    print(f"{output}: {len(vectors):,} vectors of {vectors.shape[1]}")
