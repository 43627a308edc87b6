"""`keras-bert`: each command is one call into the package."""

import io
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from keras_bert_app import cli_pretraining
from keras_bert_app.quiet import quiet_import

app = typer.Typer(
    help="BERT for Keras 3 and TensorFlow: from raw text to a served model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Run = Annotated[
    str, typer.Argument(help="Run folder of finetune, or a handle of a text classifier.", show_default=False)
]
TextColumn = Annotated[str, typer.Option(help="Column or JSON key of the text.")]
LabelColumn = Annotated[str, typer.Option(help="Column or JSON key of the label.")]
Offline = Annotated[bool, typer.Option("--offline", help="Make no request; use what was downloaded before.")]
BatchSize = Annotated[int, typer.Option(help="Texts that go through the model together.")]


@app.command()
def demo(
    review: Annotated[str, typer.Argument(help="A review to be answered.")] = (
        "A warm and funny film with a brilliant cast. I loved every minute."
    ),
    output: Annotated[Path, typer.Option(help="Run folder.")] = Path("demo"),
    saved_models: Annotated[Path, typer.Option(help="Where the model is exported to.")] = Path(
        "saved_models"
    ),
):
    """Run the main job on sample reviews: fine-tune, evaluate, export, answer a review."""
    quiet_import()
    from keras_bert_app.demo import demo as run_demo

    result = run_demo(review, output, saved_models)
    answer = result["answer"]
    print(f"accuracy  {result['accuracy']:.3f} on {result['test']} reviews that the model has not seen")
    print(f"run       {result['run']}")
    print(f"exported  {result['exported']}")
    print(f"review    {review}")
    print(f"answer    {answer['label']} ({answer['score']:.3f}), by the exported model")


@app.command()
def finetune(
    task: Annotated[str, typer.Argument(help="Such as text-classification.", show_default=False)],
    train: Annotated[
        Path,
        typer.Option(help="CSV, TSV or JSONL, also .gz; or a folder for each label.", show_default=False),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Short name, address, folder or archive of a pretrained BERT, see keras-bert models.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(help="Run folder; must not exist.", show_default=False)],
    validation: Annotated[
        Path | None, typer.Option(help="As --train; the epoch that is best on it is kept.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="How often the data are gone through.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Examples of a training step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="The highest learning rate.")] = 5e-5,
    sequence_length: Annotated[
        int | None,
        typer.Option(help="Word pieces of the longest input; 128, or the most that the model takes."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of head, order and dropout.")] = 0,
    precision: Annotated[str, typer.Option(help="float32 or mixed_bfloat16.")] = "float32",
    class_weights: Annotated[str | None, typer.Option(help="balanced: rare labels weigh more.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better validation metric.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write events for TensorBoard.")] = False,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
):
    """Fine-tune a pretrained BERT. Killed and started again with the same arguments, it goes on."""
    quiet_import()
    from keras_bert_app.tasks import get_task
    from keras_bert_app.training import finetune as run

    def read(path):
        return None if path is None else get_task(task).read(path, text_column, label_column)

    run(
        task,
        read(train),
        read(validation),
        model=model,
        output=output,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        sequence_length=sequence_length,
        seed=seed,
        precision=precision,
        class_weights=class_weights,
        patience=patience,
        tensorboard=tensorboard,
    )
    print(output)


@app.command()
def evaluate(
    folder: Run,
    data: Annotated[Path, typer.Option(help="Labelled texts, as --train of finetune.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    batch_size: BatchSize = 32,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
):
    """Measure a fine-tuned model: accuracy, precision, recall, F1, confusion matrix, worst mistakes."""
    quiet_import()
    from keras_bert_app.task_model import load
    from keras_bert_app.tasks import get_task

    model = load(folder)
    task = get_task(model.task)
    report = model.evaluate(task.read(data, text_column, label_column), batch_size)
    print(json.dumps(report, ensure_ascii=False) if as_json else task.show(report))


@app.command()
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
            help="Texts from CSV, TSV, JSONL, or .txt with one on each line, also .gz; pairs for "
            "--task next-sentence from the columns of --text-column and --pair-column."
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
            help="With --task: short name, address, folder or archive of a BERT with pretraining heads."
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="With --task fill-mask: guesses for each [MASK]; by default 5.")
    ] = None,
    batch_size: BatchSize = 32,
    text_column: TextColumn = "text",
    pair_column: Annotated[
        str, typer.Option(help="With --task next-sentence: column or JSON key of the second text.")
    ] = "text_pair",
):
    """Answer texts, as JSON lines. Without TEXT and --file, each line of standard input is one.

    keras-bert predict runs/reviews "A great film!"

    keras-bert predict --task fill-mask --model my-bert "The film was [MASK]."

    keras-bert predict --task next-sentence --model my-bert "He opened the door." "Then he went in."
    """
    quiet_import()
    from keras_bert_app.task_model import load

    if task is None and folder is None:
        raise ValueError("give the run folder of a fine-tuned model, or --task for a pretrained one")
    if task is None and model is not None:
        raise ValueError(f"--model {model} needs --task: a fine-tuned model is the first argument")
    if task != "fill-mask" and top_k is not None:
        raise ValueError(f"--top-k {top_k} needs --task fill-mask")
    texts = list(texts or ())
    if task is not None and folder is not None:
        texts = [folder, *texts]  # there is no run folder: all are texts
    if texts and file:
        raise ValueError("give texts or --file, not both")
    if task == "next-sentence":
        texts = _read_pairs(texts, file, (text_column, pair_column))
        given = [{"text": first, "text_pair": second} for first, second in texts]
    else:
        texts = _read_texts(texts, file, text_column)
        given = [{"text": text} for text in texts]
    if task is not None and model is None:
        raise ValueError(f"--task {task} needs --model: a pretrained BERT that has its heads")
    answerer = load(folder) if task is None else load(model, task=task)
    if task == "fill-mask":
        answers = [{"masks": masks} for masks in answerer(texts, top_k, batch_size=batch_size)]
    else:
        answers = answerer(texts, batch_size)
    for text, answer in zip(given, answers, strict=True):
        print(json.dumps({**text, **answer}, ensure_ascii=False))


def _read_texts(texts, file, text_column):
    """The texts of the command line, of a file, or else of standard input."""
    from keras_bert_app.data import readers

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


def _read_pairs(texts, file, columns):
    """The pair of texts of the command line, or the pairs of a file."""
    from keras_bert_app.data import readers

    if not file:
        if len(texts) != 2:
            raise ValueError(f"--task next-sentence takes two texts, {len(texts)} are given: or give --file")
        return [tuple(texts)]
    pairs = [tuple(row[column] for column in columns) for row in readers.read_rows(file, *columns)]
    if not pairs:
        raise ValueError(f"{file} is empty: give at least one pair")
    return pairs


@app.command()
def export(
    folder: Run,
    output: Annotated[Path, typer.Option(help="Such as saved_models/reviews.", show_default=False)],
):
    """Write the next version of a SavedModel that takes text, for TensorFlow Serving."""
    quiet_import()
    from keras_bert_app.exporting import export as run

    print(run(folder, output))


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="Handle, folder or archive of a BERT in any format, or a run folder.", show_default=False
        ),
    ],
    target: Annotated[Path, typer.Argument(help="Folder to be written.", show_default=False)],
    format: Annotated[str, typer.Option(help="huggingface, tfhub, keras_hub or google.", show_default=False)],
    tolerance: Annotated[
        float, typer.Option(help="Largest difference of any output; if one is larger, nothing is written.")
    ] = 1e-5,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of names of tensors that are left out; may be repeated."),
    ] = None,
    offline: Offline = False,
    dtype: Annotated[
        str, typer.Option(help="Of the weights: float32, or float16 in a Hugging Face folder.")
    ] = "float32",
):
    """Convert a BERT to another format, and print by how much each layer's output differs."""
    quiet_import()
    from keras_bert_app.conversion import ToleranceError
    from keras_bert_app.conversion import convert as run

    try:
        print(run(source, target, format, tolerance, ignore or (), offline, dtype))
    except ToleranceError as error:
        print(error.report)
        raise
    print(target)


@app.command()
def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
):
    """List the published BERTs that have a short name."""
    from keras_bert_app import published

    print(published.show(as_json))


for command in (cli_pretraining.vocab, cli_pretraining.prepare, cli_pretraining.pretrain):
    app.command()(command)


def main():
    """Runs the command line; what a user can repair is one line on standard error and exit code 1."""
    warnings.showwarning = lambda message, *_: print(f"keras-bert: warning: {message}", file=sys.stderr)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what goes wrong is an exception too
    try:
        app()
    except Exception as error:
        if "KERAS_BERT_TRACEBACK" in os.environ:
            raise
        message = " ".join(str(error).split())
        if not isinstance(error, ValueError | OSError | FloatingPointError | ModuleNotFoundError):
            # A mistake of this program, not of its user.
            message = f"{type(error).__name__}: {message}. KERAS_BERT_TRACEBACK=1 shows where"
        sys.exit(f"keras-bert: {message}")
