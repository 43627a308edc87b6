"""What a training leaves behind."""

import json
import shutil
import sys
import tempfile
from importlib import metadata

import keras

from keras_bert_app import __version__, files
from keras_bert_app.checkpoints import writing
from keras_bert_app.checkpoints.checkpoint import Checkpoint, Tensors
from keras_bert_app.checkpoints.names import KERAS_BERT_APP
from keras_bert_app.encoder import encoder_config
from keras_bert_app.heads import mlm_numbers
from keras_bert_app.progress import plot_history
from keras_bert_app.registry import custom_objects
from keras_bert_app.tasks import get_task


def facts(packages):
    """The versions of some packages, and the most memory that the process has used so far.

    Args:
        packages: names of distributions.

    Returns:
        dict with `peak_memory_mib` and `versions`.
    """
    import resource  # Windows has none

    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on a Mac, KiB on Linux
    return {
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
        "versions": {"keras_bert_app": __version__, **{name: metadata.version(name) for name in packages}},
    }


def write_history(folder, history, unfinished):
    """Writes what happened in a training to its folder.

    Args:
        folder: of the result.
        history: list of dicts, see `plot_history`.
        unfinished: folder of the unfinished run, with the events for TensorBoard, if any.
    """
    files.write_json(folder / "history.json", history)
    plot_history(history, folder / "curves.png")
    if (unfinished / "tensorboard").exists():
        shutil.copytree(unfinished / "tensorboard", folder / "tensorboard")


def is_one(folder):
    """True for a folder that `TaskModel.save` has written, damaged or not."""
    if not any((folder / name).is_file() for name in ("labels.json", "model.keras")):
        return False
    try:
        config = read_json(folder / "config.json")
    except ValueError:
        return True
    return not isinstance(config, dict) or "model_type" not in config  # which Hugging Face's have


def read(folder):
    """The task, the preprocessor and the model that `TaskModel.save` has written.

    Args:
        folder: Path of them.

    Returns:
        `(task, preprocessor, model)`, a task, a `BertPreprocessor` and a `keras.Model` with its head.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: one is damaged.
        OSError: one cannot be read.
    """
    for name in ("config.json", "model.keras"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no fine-tuned model: there is no {name}. Give a run folder")
    try:
        config, labels = (read_json(folder / name) for name in ("config.json", "labels.json"))
        if not isinstance(config, dict) or "task" not in config:
            raise ValueError("config.json names no task")
        text_model = keras.saving.load_model(
            folder / "model.keras", custom_objects=custom_objects(), compile=False
        )
        preprocessor = next(layer for layer in text_model.layers if hasattr(layer, "tokenizer"))
        model = next(layer for layer in text_model.layers if isinstance(layer, keras.Model))
        kept = {**config["options"], **({} if labels is None else {"labels": labels})}
        task = get_task(config["task"], **kept)
        if hasattr(task, "labels") and len(labels or "1") != model.output_shape[-1]:
            number = "is missing" if labels is None else f"has {len(labels)} labels"
            raise ValueError(f"labels.json {number}, the model {model.output_shape[-1]}")
    except Exception as error:  # what a damaged archive raises depends on which byte is wrong
        message = str(error).strip().split("\n")[0].rstrip(".")
        if getattr(error, "errno", None) is not None:  # not the file's fault: a full temporary folder, say
            raise OSError(
                f"cannot load {folder}: {message}. Free space in {tempfile.gettempdir()}"
            ) from error
        raise ValueError(f"{folder} is damaged or no fine-tuned model: {message}. Train it again") from error
    return task, preprocessor, model


def as_checkpoint(folder):
    """What `TaskModel.save` has written, as a `Checkpoint`; see `read`."""
    task, preprocessor, model = read(folder)
    config = encoder_config(model)
    values = dict(writing.stored(model, KERAS_BERT_APP, config))
    tensors = Tensors(folder / "model.keras", {k: v.shape for k, v in values.items()}, values.__getitem__)
    tokenizer = {**preprocessor.tokenizer.get_config(), "vocabulary": preprocessor.tokenizer.vocabulary}
    problem_type = getattr(task, "problem_type", None)
    mlm_activation, mlm_epsilon = mlm_numbers(model)
    pooling = {name: getattr(task, name, None) for name in ("pooling", "normalize")}
    return Checkpoint(
        format="keras_bert_app",
        config=config,
        tokenizer={k: v for k, v in tokenizer.items() if k not in ("name", "trainable", "dtype")},
        tensors=tensors,
        names=KERAS_BERT_APP.names(config.num_hidden_layers),
        leftovers=KERAS_BERT_APP.leftovers,
        labels=getattr(task, "labels", None),
        sequence_length=preprocessor.sequence_length,
        truncation=preprocessor.truncation,
        mlm_activation=mlm_activation,
        mlm_epsilon=mlm_epsilon,
        problem_type=None if problem_type == "single_label_classification" else problem_type,  # the default
        sentence_encoder={name: value for name, value in pooling.items() if value is not None},
    )


def read_json(path):
    """What is in a JSON file, None if there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
