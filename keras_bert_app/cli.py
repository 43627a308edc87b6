"""`keras-bert`: each command is one call into the package."""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from keras_bert_app import cli_predict, cli_pretraining, cli_serving
from keras_bert_app.bundled import DEFAULT
from keras_bert_app.cli_predict import TaskOption, options_of
from keras_bert_app.quiet import quiet_import

app = typer.Typer(
    help="BERT for Keras 3 and TensorFlow: from raw text to a served model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Run = Annotated[
    str, typer.Argument(help="Run folder of finetune, or a handle of a fine-tuned BERT.", show_default=False)
]
TextColumn = Annotated[
    str | None,
    typer.Option(
        help="Column or JSON key of the text, by default text or as the task says; of CoNLL its number.",
        show_default=False,
    ),
]
PairColumn = Annotated[
    str | None, typer.Option(help="Column or JSON key of the second text of a pair.", show_default=False)
]
LabelColumn = Annotated[
    str | None, typer.Option(help="Column or JSON key of the label; by default label.", show_default=False)
]
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
    task: Annotated[
        str,
        typer.Argument(
            help="text-classification, token-classification, question-answering, sentence-similarity, "
            "multiple-choice, fill-mask or next-sentence; docs/tasks.md has their files and options.",
            show_default=False,
        ),
    ],
    train: Annotated[
        Path,
        typer.Option(
            help="CSV, TSV or JSONL, or a folder for each label; CoNLL or JSONL for words, SQuAD's JSON or "
            "JSONL for questions, lines of .txt for fill-mask; also .gz.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(help="Run folder; must not exist.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(
            help="Short name, address, folder or archive of a pretrained BERT, see keras-bert models."
        ),
    ] = DEFAULT,
    validation: Annotated[
        Path | None, typer.Option(help="As --train; the epoch that is best on it is kept.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="How often the data are gone through.")] = 3,
    batch_size: Annotated[int, typer.Option(help="Examples of a training step.")] = 32,
    batch_tokens: Annotated[
        int | None,
        typer.Option(help="At most so many word pieces a step, with padding, in the place of --batch-size."),
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="The highest learning rate.")] = 5e-5,
    warmup: Annotated[
        float | None,
        typer.Option(help="Share of the steps in which it rises; 0.1, for token-classification 0."),
    ] = None,
    sequence_length: Annotated[
        int | None,
        typer.Option(
            help="Word pieces of the longest input; 128, for questions 384, or the most that the model takes."
        ),
    ] = None,
    truncation: Annotated[
        str | None,
        typer.Option(
            help="How longer ones are cut: longest_first, the default, head_tail, which keeps both ends, "
            "waterfall, only_first or only_second."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of head, order and dropout.")] = 0,
    precision: Annotated[str, typer.Option(help="float32 or mixed_bfloat16.")] = "float32",
    class_weights: Annotated[str | None, typer.Option(help="balanced: rare labels weigh more.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better validation metric.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write events for TensorBoard.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print where the time of a step went, and write a trace of it.")
    ] = False,
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    option: TaskOption = None,
):
    """Fine-tune a pretrained BERT. Killed and started again with the same arguments, it goes on."""
    quiet_import()
    from keras_bert_app.tasks import get_task
    from keras_bert_app.training import finetune as run

    run(
        get_task(task, **options_of(option)),
        train,
        validation,
        model=model,
        output=output,
        epochs=epochs,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        learning_rate=learning_rate,
        warmup=warmup,
        sequence_length=sequence_length,
        truncation=truncation,
        seed=seed,
        precision=precision,
        class_weights=class_weights,
        patience=patience,
        tensorboard=tensorboard,
        profile=profile,
        columns=_columns(text_column, pair_column, label_column),
    )
    print(output)


def _columns(text, pair, label):
    """The names of columns that were given."""
    given = {"text": text, "pair": pair, "label": label}
    return {what: name for what, name in given.items() if name is not None}


@app.command()
def evaluate(
    folder: Run,
    data: Annotated[Path, typer.Option(help="Data as --train of finetune.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Question answering: also write what the scripts of SQuAD read, to this .json file."
        ),
    ] = None,
    batch_size: BatchSize = 32,
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    task: Annotated[
        str | None, typer.Option(help="Of a BERT that is not fine-tuned, see keras-bert predict.")
    ] = None,
    option: TaskOption = None,
):
    """Measure a fine-tuned model with the figures of its task, and show its worst mistakes."""
    quiet_import()
    from keras_bert_app.loading import load

    model = load(folder, task=task, options=options_of(option))
    columns = _columns(text_column, pair_column, label_column)
    report = model.evaluate(data, batch_size, columns, predictions)
    print(json.dumps(report, ensure_ascii=False) if as_json else model.task.show(report))


@app.command()
def export(
    folder: Run,
    output: Annotated[Path, typer.Option(help="Such as saved_models/reviews.", show_default=False)],
    task: Annotated[
        str | None, typer.Option(help="Of a BERT that is not fine-tuned, see keras-bert predict.")
    ] = None,
    option: TaskOption = None,
    format: Annotated[
        str, typer.Option(help="tf_saved_model, litert, onnx or openvino; the last three take ids.")
    ] = "tf_saved_model",
    quantize: Annotated[
        str | None,
        typer.Option(help="float16 or int8; not of tf_saved_model."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data as --train of finetune, to measure before and after; the int8 of openvino takes the "
            "ranges of activations from it. Not of tf_saved_model."
        ),
    ] = None,
    serving_files: Annotated[
        bool,
        typer.Option(
            "--serving-files",
            help="Also write configuration for TensorFlow Serving, a compose file and Kubernetes manifests.",
        ),
    ] = False,
):
    """Write the next version of a SavedModel that takes text, for TensorFlow Serving; or another format."""
    quiet_import()
    from keras_bert_app import formats
    from keras_bert_app import serving_files as beside
    from keras_bert_app.exporting import check_format
    from keras_bert_app.exporting import export as run
    from keras_bert_app.loading import load

    check_format(format, quantize, data)
    if serving_files and format != "tf_saved_model":
        raise ValueError(f"--serving-files is for TensorFlow Serving, which does not take {format}")
    path = run(load(folder, task=task, options=options_of(option)), output, format, quantize, data)
    print(path)
    if format != "tf_saved_model":
        print(formats.show(json.loads((path / "config.json").read_text(encoding="utf-8"))["check"]))
    if serving_files:
        print(beside.write(output, int(path.name)))


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="Of a SavedModel, or of its versions.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
):
    """Show what a SavedModel takes and returns, and how to ask it."""
    quiet_import()
    from keras_bert_app import inspecting

    found = inspecting.inspect(folder)
    print(json.dumps(found, ensure_ascii=False) if as_json else inspecting.show(found))


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


app.command()(cli_predict.predict)
app.command()(cli_predict.embed)
app.command(context_settings=cli_serving.CONTEXT)(cli_serving.serve)
for command in (cli_pretraining.vocab, cli_pretraining.prepare, cli_pretraining.pretrain):
    app.command()(command)


def main():
    """Runs the command line; what a user can repair is one line on standard error and exit code 1."""
    warnings.showwarning = lambda message, *_: print(f"keras-bert: warning: {message}", file=sys.stderr)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what goes wrong is an exception too
    if sys.argv[1:2] == ["serve"]:
        sys.argv[1:] = cli_serving.with_switches(sys.argv[1:])
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
