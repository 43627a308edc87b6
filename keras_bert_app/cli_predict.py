"""`keras-bert predict`: answers of a fine-tuned model, or of a pretrained one with its heads."""

import io
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from keras_bert_app.quiet import quiet_import


def predict(
    folder: Annotated[
        str | None,
        typer.Argument(
            help="Run folder of finetune, or a handle of a text classifier; with --task the first text.",
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
            "follows the first."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="With --task: short name, address, folder or archive of a BERT with pretraining heads; "
            "by default bert_mini_reviews, which comes with the package."
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="With --task fill-mask: guesses for each [MASK]; by default 5.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Texts that go through the model together.")] = 32,
    text_column: Annotated[
        str | None,
        typer.Option(help="Column or JSON key of the text, or of the first of two; by default text."),
    ] = None,
    pair_column: Annotated[
        str | None, typer.Option(help="Column or JSON key of the second of two texts; by default text_pair.")
    ] = None,
):
    """Answer texts, as JSON lines. Without TEXT and --file, each line of standard input is one.

    keras-bert predict runs/reviews "A great film!"

    keras-bert predict --task fill-mask "The film was [MASK]."

    keras-bert predict --task next-sentence "He opened the door." "Then he went in."
    """
    texts = list(texts or ())
    columns = {
        what: name for what, name in (("text", text_column), ("pair", pair_column)) if name is not None
    }
    if task != "fill-mask" and top_k is not None:
        raise ValueError(f"--top-k {top_k} needs --task fill-mask")
    if task is not None:
        if model is None and folder is not None and Path(folder).is_dir():
            raise ValueError(f"{folder} is a folder: with --task give a model as --model {folder}")
        texts = texts if folder is None else [folder, *texts]  # there is no run folder: all are texts
        answered = _ask_pretrained(task, model, texts, file, top_k, batch_size, columns)
    else:
        if folder is None:
            raise ValueError("give the run folder of a fine-tuned model, or --task for a pretrained one")
        if model is not None:
            raise ValueError(f"--model {model} needs --task: a fine-tuned model is the first argument")
        answered = _ask_finetuned(folder, texts, file, batch_size, columns)
    for row in answered:
        print(json.dumps(row, ensure_ascii=False))


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
    texts = _read_texts([], file, text_column)
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


def _ask_finetuned(folder, texts, file, batch_size, columns):
    """Yields a line of output for each input."""
    quiet_import()
    from keras_bert_app.task_model import load

    model = load(folder)
    if file and not texts:
        inputs = model.task.read_inputs(file, columns)
        if not inputs:
            raise ValueError(f"{file} is empty: give at least one text")
    else:
        is_one = len(model.task.text_inputs) == 1
        inputs = model.task.from_texts(_read_texts(texts, file) if texts or file or is_one else texts)
    for given, answer in zip(inputs, model(inputs, batch_size), strict=True):
        yield {**model.task.named(given), **answer}


def _ask_pretrained(task, model, texts, file, top_k, batch_size, columns):
    """Yields a line of output for each text or pair."""
    pairs = task == "next-sentence"
    text_column, pair_column = columns.get("text", "text"), columns.get("pair", "text_pair")
    given = (
        _read_pairs(texts, file, text_column, pair_column) if pairs else _read_texts(texts, file, text_column)
    )
    quiet_import()
    from keras_bert_app.task_model import load

    answerer = load(model, task=task)
    if pairs:
        for (first, second), answer in zip(given, answerer(given, batch_size), strict=True):
            yield {"text": first, "text_pair": second, **answer}
    else:
        for text, masks in zip(given, answerer(given, top_k, batch_size=batch_size), strict=True):
            yield {"text": text, "masks": masks}


def _read_texts(texts, file, text_column="text"):
    """The texts of the command line, of a file, or else of standard input."""
    from keras_bert_app.data import readers

    if texts and file:
        raise ValueError("give texts or --file, not both")
    if file:
        texts = list(readers.read_texts(file, text_column))
    elif not texts:
        try:
            lines = io.StringIO(sys.stdin.buffer.read().decode("utf-8-sig"), newline=None)
        except UnicodeDecodeError as error:
            raise ValueError(f"standard input is not UTF-8 ({error}): convert it with iconv") from error
        texts = [line.rstrip("\n") for line in lines]
    if not texts:
        raise ValueError(f"{file or 'standard input'} is empty: give at least one text")
    return texts


def _read_pairs(texts, file, *columns):
    """The pair of texts of the command line, or the pairs of a file."""
    from keras_bert_app.data import readers

    if texts and file:
        raise ValueError("give texts or --file, not both")
    return readers.read_pairs(file, *columns) if file else readers.pair_of(texts)
