"""A fine-tuned model that takes text: what `finetune` returns and `load` reads."""

import json
import tempfile
from pathlib import Path

import keras

from keras_bert_app import files, handles
from keras_bert_app.bundled import DEFAULT
from keras_bert_app.checkpoints import sentence_transformers
from keras_bert_app.data import buckets
from keras_bert_app.registry import custom_objects
from keras_bert_app.tasks import check_columns, get_task, options_of, replaced, task_class, task_names


class TaskModel:
    """A task, a preprocessor and a model; call it with texts.

    Args:
        task: the task, see `tasks`; or its name, and then its options follow as `options`.
        preprocessor: `BertPreprocessor`.
        model: `keras.Model` from the encoder's inputs to the task's output.
        options: dict of the options of a task that is named, such as `{"labels": ["no", "yes"]}`.

    Call arguments:
        inputs: a list of what the task takes: str, or tuples of two for pairs of texts. One alone is a
            list of one.
        batch_size: texts that go through the model together.
        options: of the task, in the place of its own for this call, such as `top_k` of `FillMask`.

    Returns:
        list of dicts, one for each input; see the task's `answers`.

    Raises:
        ValueError: a text is empty or 1 MB and more, the message names its index; or an option is not
            possible.

    Example:

    ```python
    model = kba.load("runs/reviews")
    model(["a great film"])  # [{"label": "positive", "score": 0.98, ...}]
    ```
    """

    def __init__(self, task, preprocessor, model, options=None):
        self.task = get_task(task, **(options or {}))
        self.preprocessor = prepared(self.task, preprocessor)
        self.model = _without_compilation(model)
        self._predictor = None, model  # of which task

    @property
    def labels(self):
        """The labels, in the order of the outputs; None for a task without."""
        return getattr(self.task, "labels", None)

    def __call__(self, inputs, batch_size=32, **options):
        task = replaced(self.task, options) if options else self.task
        inputs = task.check(inputs)
        return task.answers(*self._ask(task, inputs, batch_size), inputs)

    def outputs(self, inputs, batch_size=32):
        """The model's raw outputs for a list of inputs, one for each item, see `Features`."""
        return self._ask(self.task, list(inputs), batch_size)[0]

    def _ask(self, task, inputs, batch_size):
        features = task.encode(self.preprocessor, inputs)
        return self.predict(features, batch_size, task), features

    def predict(self, features, batch_size=32, task=None):
        """The raw outputs of the model, or of the task's `predictor`, for `Features`, one for each row."""
        task = self.task if task is None else task
        if hasattr(task, "predictor") and task != self._predictor[0]:
            self._predictor = task, _without_compilation(task.predictor(self.model, self.preprocessor))
        return buckets.predict(self._predictor[1], features, batch_size, task.per_piece)

    def evaluate(self, data, batch_size=32, columns=None, predictions=None):
        """How good the answers for examples are.

        Args:
            data: a path or an iterable of `(input, target)`; see the task's `read`.
            batch_size: texts that go through the model together.
            columns: dict of the names of columns, if they are others: of `"text"`, `"pair"` and
                `"label"`.
            predictions: for question answering, path of a `.json` file to which the answers are written as
                the scripts of SQuAD read them; how sure it is that there is none goes to a file beside it,
                which ends in `-null-odds.json`.

        Returns:
            dict, see the task's `report`; for text classification with `accuracy`,
            `per_class`, `confusion_matrix` and `worst_mistakes`.

        Raises:
            ValueError: the data cannot be used, or hold a label that the model does not know.
        """
        examples = self.task.read(data, check_columns(columns))
        features = self.task.encode(self.preprocessor, [given for given, _ in examples])
        self.task.training_targets(features, examples)  # an unknown label is an error before the work
        if predictions is not None and not hasattr(self.task, "predictions"):
            raise ValueError(f"predictions={str(predictions)!r}: {self.task.name} has no format for them")
        outputs = self.predict(features, batch_size)
        if predictions is not None:
            self._write_predictions(Path(predictions), outputs, features, examples)
        return self.task.report(outputs, features, examples)

    def _write_predictions(self, path, outputs, features, examples):
        found = self.task.predictions(outputs, features, examples)
        odds = path.with_name(f"{path.name.removesuffix('.json')}-null-odds.json")
        for name, target in (("null_odds", odds), ("predictions", path)):
            if name in found:
                with files.whole(target) as temporary:
                    files.write_json(temporary, found[name])

    def validate(self, features, examples, batch_size=32):
        """See `evaluate`, of examples that are encoded already, with the threshold that is best for them."""
        outputs = self.predict(features, batch_size)
        task = self.task.tuned(outputs, features, examples) if self.task.is_tuned else self.task
        return task.report(outputs, features, examples)

    def text_model(self):
        """One `keras.Model` from strings `(batch,)` to the task's output, preprocessing inside.

        It has an input for each text that the task takes: `text`, and `text_pair` for pairs.
        """
        texts = [keras.Input((), dtype="string", name=name) for name in self.task.text_inputs]
        packed = self.preprocessor(tuple(texts) if len(texts) > 1 else texts[0])
        if "masked_lm_positions" in self.model.input:
            from keras_bert_app.preprocessing.mask_positions import MaskPositions

            packed = MaskPositions(self.preprocessor.tokenizer.token_to_id("[MASK]"))(packed)
        return keras.Model(texts if len(texts) > 1 else texts[0], self.model(packed), name="text_model")

    def save(self, folder, **details):
        """Writes `model.keras`, `labels.json` and `config.json` to an existing folder.

        Args:
            folder: where to.
            details: what else `config.json` shall hold.
        """
        folder = Path(folder)
        self.text_model().save(folder / "model.keras")
        options = options_of(self.task)
        labels = options.pop("labels", None)
        if labels is not None:
            files.write_json(folder / "labels.json", labels)
        files.write_json(folder / "config.json", {"task": self.task.name, "options": options, **details})


def prepared(task, preprocessor):
    """The preprocessor as the task needs it."""
    return task.prepared(preprocessor) if hasattr(task, "prepared") else preprocessor


def _without_compilation(model):
    if keras.config.backend() == "tensorflow":
        model.jit_compile = False  # XLA would compile anew for each length
    return model


def load(handle=None, offline=False, task=None, options=None):
    """A model that answers: what `finetune` saved, a model of somebody else, or a pretrained BERT.

    Args:
        handle: the run folder; or what `open_checkpoint` takes, if there is the head of a task in it, or it
            is of sentence-transformers, such as `"hf://organization/name"`. With `task` it defaults to
            `"bert_mini_reviews"`, which comes with the package.
        offline: True to make no request.
        task: None for a fine-tuned model; or what a BERT shall do: `"fill-mask"`, guess masked words, and
            `"next-sentence"`, tell whether a text follows another, with the heads that it was pretrained
            with; `"sentence-similarity"`, which needs no head; or `"multiple-choice"`, of which no checkpoint
            says that it was trained for it.
        options: dict of options of the task, in the place of its own; of a model that somebody else has
            trained what its files do not say, such as `{"pairs": True}` or `{"no_answer": True}`.

    Returns:
        A `TaskModel`, which is called with texts.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no model.
        ValueError: a file in it is damaged, it holds no such head, or there is no such task.
        OSError: the download failed.

    Example:

    ```python
    model = kba.load(task="fill-mask")
    model("It was a complete [MASK] of time.")  # [{"masks": [[{"token": "waste", "score": 0.99, ...}, ...]]}]

    model = kba.load(task="next-sentence")
    model([("He opened the door.", "Then he went in.")])  # [{"is_next": True, "score": 0.78}]
    ```
    """
    if task is not None:
        task_class(task)  # or an error
    if handle is None and task is None:
        raise ValueError("give the run folder of a fine-tuned model, or a task, such as task='fill-mask'")
    handle = DEFAULT if handle is None else handle
    if handle != DEFAULT and not isinstance(handle, tuple):  # which a TF-Hub pair is
        folder = Path(handle)
        if any((folder / name).is_file() for name in ("labels.json", "model.keras")):
            model = _load_run(folder, options)
            if task not in (None, model.task.name):
                raise ValueError(f"{folder} is a model for {model.task.name}: {task} needs another")
            return model
    checkpoint = handles.open_checkpoint(handle, offline)
    return _of_checkpoint(checkpoint, task or _task_of(checkpoint), options)


def _task_of(checkpoint):
    """The name of the task that a checkpoint was trained for."""
    where, classes = checkpoint.tensors.path, {name: task_class(name) for name in task_names()}
    by_name = {name for name, kind in classes.items() if getattr(kind, "by_name", False)}
    found = [name for name, kind in classes.items() if kind.head in checkpoint.heads]
    if set(found) - by_name:
        return next(name for name in found if name not in by_name)
    if sentence_transformers.is_one(where.parent):
        return "sentence-similarity"
    heads, possible = ", ".join(checkpoint.heads) or "none", [*found, "sentence-similarity"]
    raise ValueError(
        f"{where} is no fine-tuned model: its heads are {heads}. Without fine-tuning there is "
        f"task={' or '.join(map(repr, possible))}"
    )


def _of_checkpoint(checkpoint, name, options):
    """The model for a task of a checkpoint that this package has not written as a run folder."""
    kind, where = task_class(name), checkpoint.tensors.path
    length = None
    if kind.head is not None and kind.head not in checkpoint.heads:
        heads = ", ".join(checkpoint.heads) or "none"
        raise ValueError(f"{where} has no {kind.head} head, which {name} needs: its heads are {heads}")
    task = replaced(kind.of_checkpoint(checkpoint), options)
    if kind.head is None:
        length = sentence_transformers.sequence_length(where.parent)
        model = task.build(checkpoint.build()[0], 0.0)
    elif hasattr(task, "pretrained"):
        model = task.pretrained(checkpoint.build("pretrainer")[1])
    else:
        model = checkpoint.build(kind.head)[1]
    return TaskModel(task, handles.build_preprocessor(checkpoint, length), model)


def _load_run(folder, options):
    """The model in a run folder of `finetune`."""
    for name in ("config.json", "model.keras"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no fine-tuned model: there is no {name}. Give a run folder")
    try:
        config, labels = (_read_json(folder / name) for name in ("config.json", "labels.json"))
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
        message = str(error).strip().split("\n")[0]
        if getattr(error, "errno", None) is not None:  # not the file's fault: a full temporary folder, say
            raise OSError(
                f"cannot load {folder}: {message}. Free space in {tempfile.gettempdir()}"
            ) from error
        raise ValueError(f"{folder} is damaged or no fine-tuned model: {message}. Train it again") from error
    return TaskModel(replaced(task, options), preprocessor, model)


def _read_json(path):
    """What is in a JSON file, None if there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
