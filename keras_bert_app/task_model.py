"""A fine-tuned model that takes text: what `finetune` returns and `load` reads."""

import json
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_bert_app import files, handles, pretrained_answers
from keras_bert_app.bundled import DEFAULT
from keras_bert_app.data import buckets, readers
from keras_bert_app.registry import custom_objects
from keras_bert_app.tasks import get_task


class TaskModel:
    """A preprocessor, a model and the labels of a task; call it with texts.

    Args:
        task: name of the task, such as `"text-classification"`.
        preprocessor: `BertPreprocessor`.
        model: `keras.Model` from the encoder's inputs to the task's output.
        labels: the labels, in the order of the outputs.

    Call arguments:
        texts: str or list of str.
        batch_size: texts that go through the model together.

    Returns:
        list of dicts, one for each text; see the task's `answers`.

    Raises:
        ValueError: a text is empty or 1 MB and more; the message names its index.

    Example:

    ```python
    model = kba.load("runs/reviews")
    model(["a great film"])  # [{"label": "positive", "score": 0.98, ...}]
    ```
    """

    def __init__(self, task, preprocessor, model, labels):
        self.task = task
        self.preprocessor = preprocessor
        self.model = model
        self.labels = labels
        if keras.config.backend() == "tensorflow":
            model.jit_compile = False  # XLA would compile anew for each length

    def __call__(self, texts, batch_size=32):
        outputs = self.outputs(readers.check_texts(texts), batch_size)
        return get_task(self.task).answers(outputs, self.labels)

    def outputs(self, texts, batch_size=32):
        """The model's raw outputs for a list of texts, array `(texts, ...)`."""
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size!r}: give a whole number of at least 1")
        if not texts:
            return np.empty((0, *self.model.output_shape[1:]), "float32")
        return buckets.predict(self.model, buckets.encode(self.preprocessor, texts), batch_size)

    def evaluate(self, data, batch_size=32):
        """How good the answers for labelled texts are.

        Args:
            data: a path or an iterable of `(text, label)`; see `read_labelled`.
            batch_size: texts that go through the model together.

        Returns:
            dict, see the task's `report`; for text classification with `accuracy`,
            `per_class`, `confusion_matrix` and `worst_mistakes`.

        Raises:
            ValueError: the data cannot be used, or hold a label that the model does not know.
        """
        task = get_task(self.task)
        examples = task.read(data)
        task.encode_labels(examples, self.labels)  # an unknown label is an error before the work
        outputs = self.outputs([text for text, _ in examples], batch_size)
        return task.report(examples, outputs, self.labels)

    def text_model(self):
        """One `keras.Model` from strings `(batch,)` to the task's output, preprocessing inside."""
        text = keras.Input((), dtype="string", name="text")
        return keras.Model(text, self.model(self.preprocessor(text)), name="text_model")

    def save(self, folder, **details):
        """Writes `model.keras`, `labels.json` and `config.json` to an existing folder.

        Args:
            folder: where to.
            details: what else `config.json` shall hold.
        """
        folder = Path(folder)
        self.text_model().save(folder / "model.keras")
        files.write_json(folder / "labels.json", self.labels)
        files.write_json(folder / "config.json", {"task": self.task, **details})


def load(handle=None, offline=False, task=None):
    """A model that answers: what `finetune` saved, a classifier of somebody else, or a pretrained BERT.

    Args:
        handle: the run folder; or what `open_checkpoint` takes, if there is a text classifier in it,
            such as `"hf://organization/name"`, or, with `task`, the head that the task needs; it
            then defaults to `"bert_mini_reviews"`, which comes with the package.
        offline: True to make no request.
        task: None for a fine-tuned model; or what a pretrained BERT shall do with the head that it was
            pretrained with: `"fill-mask"`, guess masked words, or `"next-sentence"`, tell whether a
            text follows another.

    Returns:
        A `TaskModel`; for `"fill-mask"` a `pretrained_answers.FillMask`, for `"next-sentence"` a
        `pretrained_answers.NextSentence`. All are called with texts.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no model.
        ValueError: a file in it is damaged, it holds no such head, or there is no such task.
        OSError: the download failed.

    Example:

    ```python
    model = kba.load(task="fill-mask")
    model("It was a complete [MASK] of time.")  # [[[{"token": "waste", "score": 0.99, ...}, ...]]]

    model = kba.load(task="next-sentence")
    model([("He opened the door.", "Then he went in.")])  # [{"is_next": True, "score": 0.78}]
    ```
    """
    tasks = pretrained_answers.TASKS
    if task is not None and task not in tasks:
        raise ValueError(f"task={task!r}: {' or '.join(map(repr, tasks))}, or None for a fine-tuned model")
    if handle is None and task is None:
        known = " or ".join(map(repr, tasks))
        raise ValueError(f"give the run folder of a fine-tuned model, or task={known} for a pretrained one")
    handle = DEFAULT if handle is None else handle
    if handle != DEFAULT and not isinstance(handle, tuple):  # which a TF-Hub pair is
        folder = Path(handle)
        if any((folder / name).is_file() for name in ("labels.json", "model.keras")):
            if task is not None:
                raise ValueError(f"{folder} is a fine-tuned model: {task} needs a pretrained one")
            return _load_run(folder)
    checkpoint = handles.open_checkpoint(handle, offline)
    where, heads = checkpoint.tensors.path, ", ".join(checkpoint.heads) or "none"
    if task is not None:
        head, answer = tasks[task]
        if head not in checkpoint.heads:
            raise ValueError(f"{where} has no {head} head, which {task} needs: its heads are {heads}")
        return answer(handles.build_preprocessor(checkpoint), checkpoint.build("pretrainer")[1])
    if "text_classifier" not in checkpoint.heads:
        possible = [name for name, (head, _) in tasks.items() if head in checkpoint.heads]
        remedy = f". Without fine-tuning there is task={' or '.join(map(repr, possible))}" if possible else ""
        raise ValueError(f"{where} is no fine-tuned text classifier: its heads are {heads}{remedy}")
    if checkpoint.labels is None or len(checkpoint.labels) < 2:
        raise ValueError(f"{where} has no names of labels, or fewer than two: text-classification needs them")
    if checkpoint.problem_type not in (None, "single_label_classification"):
        raise ValueError(
            f"{where} is for {checkpoint.problem_type}, which text-classification is not: "
            'give it to from_pretrained(..., head="text_classifier") for its logits'
        )
    preprocessor = handles.build_preprocessor(checkpoint)
    model = checkpoint.build("text_classifier")[1]
    return TaskModel("text-classification", preprocessor, model, checkpoint.labels)


def _load_run(folder):
    """The model in a run folder of `finetune`."""
    for name in ("config.json", "labels.json", "model.keras"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no fine-tuned model: there is no {name}. Give a run folder")
    try:
        config, labels = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in ("config.json", "labels.json")
        )
        if not isinstance(config, dict) or "task" not in config:
            raise ValueError("config.json names no task")
        text_model = keras.saving.load_model(
            folder / "model.keras", custom_objects=custom_objects(), compile=False
        )
        preprocessor, model = text_model.layers[1:]
        if len(labels) != model.output_shape[-1]:
            raise ValueError(f"labels.json has {len(labels)} labels, the model {model.output_shape[-1]}")
    except Exception as error:  # what a damaged archive raises depends on which byte is wrong
        message = str(error).strip().split("\n")[0]
        if getattr(error, "errno", None) is not None:  # not the file's fault: a full temporary folder, say
            raise OSError(
                f"cannot load {folder}: {message}. Free space in {tempfile.gettempdir()}"
            ) from error
        raise ValueError(f"{folder} is damaged or no fine-tuned model: {message}. Train it again") from error
    return TaskModel(config["task"], preprocessor, model, labels)
