"""Models that answer, from run folders and from checkpoints of any format."""

from keras_bert_app import downloads, files, handles, run_folder
from keras_bert_app.bundled import DEFAULT
from keras_bert_app.checkpoints import sentence_transformers
from keras_bert_app.runtimes import FORMATS, Runtime
from keras_bert_app.task_model import TaskModel
from keras_bert_app.tasks import get_task, replaced, task_class, task_names


def load(handle=None, offline=False, task=None, options=None):
    """A model that answers: what `finetune` saved, a model of somebody else, or a pretrained BERT.

    Args:
        handle: the run folder; what `export` has written for LiteRT, ONNX Runtime or OpenVINO, a version or
            the folder of all, and then the newest; or what `open_checkpoint` takes, if there is the head of a
            task in it, or it is of sentence-transformers, such as `"hf://organization/name"`. With `task` it
            defaults to `"bert_mini_reviews"`, which comes with the package.
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
    if not isinstance(handle, tuple):  # which a TF-Hub pair is
        handle = downloads.download(handle, offline)
        folder = _newest(handle)
        if _is_exported(folder):
            model = _load_exported(folder, options)
            if task not in (None, model.task.name):
                raise ValueError(f"{folder} is a model for {model.task.name}: {task} needs another")
            return model
        if run_folder.is_one(folder):
            trained, preprocessor, model = run_folder.read(folder)
            if task in (None, trained.name):
                return TaskModel(replaced(trained, options), preprocessor, model)
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
    task = replaced(kind.of_checkpoint(checkpoint), options, built=False)
    if kind.head is None:
        length = sentence_transformers.sequence_length(where.parent)
        model = task.build(checkpoint.build()[0], 0.0)
    elif hasattr(task, "pretrained"):
        model = task.pretrained(checkpoint.build("pretrainer")[1])
    else:
        model = checkpoint.build(kind.head)[1]
    if hasattr(task, "labels") and len(task.labels or "1") != model.output_shape[-1]:
        raise ValueError(f"labels={task.labels!r}: {where} has {model.output_shape[-1]} outputs, name each")
    return TaskModel(task, handles.build_preprocessor(checkpoint, length), model)


def _newest(folder):
    """The newest version in a folder that `export` has written for another runtime; others are given back."""
    numbers = [] if (folder / "config.json").is_file() else files.versions(folder)
    newest = folder / str(numbers[-1]) if numbers else folder
    return newest if _is_exported(newest) else folder


def _is_exported(folder):
    """True for what `export` has written for another runtime."""
    if not any((folder / name).is_file() for name, _ in FORMATS.values()):
        return False
    config = run_folder.read_json(folder / "config.json")
    return isinstance(config, dict) and "format" in config  # others put an ONNX model beside the weights


def _load_exported(folder, options):
    """The model in a folder that `export` has written for another runtime."""
    from keras_bert_app.checkpoints import tokenizers
    from keras_bert_app.preprocessing.packing import BertPreprocessor
    from keras_bert_app.preprocessing.tokenizer import BertTokenizer

    try:
        config, labels = (run_folder.read_json(folder / name) for name in ("config.json", "labels.json"))
        task = get_task(config["task"], **config["options"], **({} if labels is None else {"labels": labels}))
        tokenizer = BertTokenizer(**tokenizers.from_huggingface(folder))
        preprocessor = BertPreprocessor(tokenizer, **config["preprocessor"])
        names = config["inputs"], config["outputs"]
        kind = config["format"]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is damaged ({error}): export the model again") from error
    changed = replaced(task, options)
    if hasattr(task, "predictor") and changed != task:
        raise ValueError(f"{folder}: the options of {task.name} are part of the model: export it with them")
    found = TaskModel(changed, preprocessor, Runtime(kind, folder, *names))
    found.uses_outputs_of(changed)
    return found
