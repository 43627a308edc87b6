"""One module for each task; this one finds them by name.

A task is a frozen dataclass: its fields are its options and what it has learned from the data, such as the
labels, and are all that a run folder keeps of it beside the model. An example is a pair `(input, target)`.
`finetune`, `evaluate`, `predict` and `export` know of a task:

- `name`: the name of its module, with hyphens.
- `head`: the name that `open_checkpoint` has for its head, None if it has no weights of its own.
- `of_checkpoint(checkpoint)`: the task of a model that somebody else has trained, a `Checkpoint`.
- `text_inputs`: the names of the parts of an input, which is a text or a tuple.
- `metric`: the number, higher being better, by which the best epoch is chosen.
- `per_piece`: True if the outputs have one entry for each word piece.
- `sequence_length`: word pieces of the longest input, unless the user says otherwise.
- `read(source, columns)`: a list of examples from a user's data; `columns` has the names that the user
  gave, under `text`, `pair` and `label`.
- `read_inputs(source, columns)`: a list of inputs from a file without targets.
- `learn(examples)`: the task with what it needs to know of the data.
- `describe()`: what it gives for an input, in words.
- `build(encoder, dropout)`: the encoder with the task's head, a `keras.Model`.
- `training_model(model, preprocessor)`: a new `keras.Model` of the same layers, which is trained. Its loss
  must not depend on what the encoder returns for padding.
- `compile_options()`: loss and metrics, for `compile`; metrics as objects: of a name Keras would make the
  variables within the first step, and TensorFlow would trace it twice.
- `check(inputs)`: the list of inputs that a user asks about, or an error.
- `encode(preprocessor, inputs)`: `Features`.
- `training_targets(features, examples, class_weights)`: what the outputs of `training_model` shall be and
  weights or None, for each item: arrays `(items, ...)`, or lists of arrays `(pieces,)`.
- `answers(outputs, features, inputs)`: a list of answers for a person.
- `collapsed(outputs, features)`: True if the outputs are the same whatever the input.
- `report(outputs, features, examples)`: a dict of metrics and mistakes, `metric` and `loss` among them.
- `show(report)`: the report as text.
- `is_tuned`: True if `tuned(outputs, features, examples)` finds a threshold with the validation data.
- `serve(model, preprocessor)`: for each signature a function of tensors and its input signature.

Some have more to say:

* `from_texts(texts)`: the list of inputs that the texts of a command line are, if they are not single texts,
  or one pair.
* `fixed`: the names of options that are part of the model once it is built.
* `model_inputs`: the names of the text inputs of `model.keras`, if they are not `text_inputs`.
* `least_batch`: the fewest examples of a batch from which it can learn.
* `warmup`: the share of the steps in which the learning rate rises, if it is not that of `finetune`.
* `started(checkpoint)`: the task with what the checkpoint says that a training starts from.
* `by_name`: True if a checkpoint of somebody else is of this task only if the user says so.
* `prepared(preprocessor)`: the preprocessor that it needs.
* `settled()`: the task with defaults for what `learn` would have found.
* `pretrained(model)`: its model, of one with the heads that BERT was pretrained with.
* `predictor(model, preprocessor)`: the `keras.Model` whose outputs it takes, if it is another than `model`.
* `output_name`: what the model's output is called in exports, if it is not `logits` and not a dict.
* `example_texts`: what stands in an example of a request, by the name of the input, if it must be special.
* `predictions(outputs, features, examples)`: answers in a format that the scripts of its field read.
"""

import dataclasses
import importlib
import pkgutil

from keras_bert_app.data import readers

COLUMNS = ("text", "pair", "label")


def task_names():
    """The names of all tasks, such as `"text-classification"`."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def get_task(task, **options):
    """A task.

    Args:
        task: its name, or the task itself.
        options: of a task that is named.

    Raises:
        ValueError: there is no such task, or it has no such option; the message names those there are.

    Example:

    >>> get_task("text-classification", threshold=0.3).threshold
    0.3
    """
    if not isinstance(task, str):
        if not dataclasses.is_dataclass(task) or getattr(task, "name", None) not in task_names():
            raise ValueError(f"task={task!r:.80}: one of {', '.join(task_names())}")
        return task
    task = task_class(task)
    known = [field.name for field in dataclasses.fields(task)]
    for name in options:
        if name not in known:
            raise ValueError(f"{task.name} has no option {name!r}: its options are {', '.join(known)}")
    return task(**options)


def from_texts(task, texts):
    """The list of inputs that the texts of a command line are.

    Raises:
        ValueError: there are not as many as an input has.
    """
    if hasattr(task, "from_texts"):
        return task.from_texts(texts)
    return texts if len(task.text_inputs) == 1 else readers.pair_of(texts)


def named(task, given):
    """An input of a task as a dict with a name for each part.

    Example:

    >>> named(get_task("question-answering"), ("Who laughs?", "Anna laughs."))
    {'question': 'Who laughs?', 'context': 'Anna laughs.'}
    """
    return dict(zip(task.text_inputs, given if len(task.text_inputs) > 1 else [given], strict=True))


def task_class(name):
    """The class of the task `name`.

    Raises:
        ValueError: there is no such task.
    """
    if name not in task_names():
        raise ValueError(f"there is no task {name!r}: one of {', '.join(task_names())}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return getattr(module, "".join(map(str.capitalize, name.split("-"))))


def replaced(task, options, built=True):
    """The task with other options, a dict or None.

    Args:
        task: the task.
        options: dict or None.
        built: True if its model is built already, so that some options are given.

    Raises:
        ValueError: it has no such option, or it is part of the model.
    """
    found = get_task(task.name, **{**options_of(task), **(options or {})})
    numbers = [
        0 if one.labels is None else len(one.labels) for one in (task, found) if hasattr(one, "labels")
    ]
    if built and len(set(numbers)) > 1:
        raise ValueError(f"{numbers[1]} labels: the model was built with {numbers[0]}, train it anew")
    for name in getattr(task, "fixed", ()) if built else ():
        if getattr(found, name) != getattr(task, name):
            raise ValueError(
                f"{name}={getattr(found, name)!r}: the model was built with {getattr(task, name)!r}, "
                "train it anew"
            )
    return found


def check_columns(columns):
    """The dict of the names of columns, `{}` for None.

    Raises:
        ValueError: it has other keys than `"text"`, `"pair"` and `"label"`, or a name is no str.
    """
    for what, name in (columns or {}).items():
        if what not in COLUMNS or not isinstance(name, str):
            known = ", ".join(map(repr, COLUMNS))
            raise ValueError(f"columns has {what!r}: {name!r}: give names, str, for some of {known}")
    return columns or {}


def options_of(task):
    """The fields of a task, such as JSON can hold, from which `get_task` makes it again."""
    return {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}
