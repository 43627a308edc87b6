"""One module for each task; this one finds them by name.

A task's module has these names, which `finetune`, `evaluate`, `predict` and `export` use:

- `METRIC`: the number, higher being better, by which the best epoch is chosen.
- `read(source, text_column, label_column)`: a list of `(text, label)` from a user's data.
- `find_labels(examples)`: the label names or numbers, in the order of the outputs.
- `encode_labels(examples, labels)`: the training targets, an array `(examples,)`.
- `build(encoder, labels, dropout)`: the encoder with the task's head, a `keras.Model`.
- `loss()`: the Keras loss of the model's output.
- `answers(outputs, labels)`: a list of dicts for a person.
- `collapsed(outputs)`: True if the outputs are the same whatever the text.
- `report(examples, outputs, labels)`: a dict of metrics and mistakes, `METRIC` among them.
- `show(report)`: the report as text.
- `serve(model, preprocessor, labels)`: a function of string tensors, and its input signature.
"""

import importlib
import pkgutil


def task_names():
    """The names of all tasks, such as `"text-classification"`."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def get_task(name):
    """The module of the task `name`.

    Raises:
        ValueError: there is no such task.
    """
    if name not in task_names():
        raise ValueError(f"there is no task {name!r}: one of {', '.join(task_names())}")
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
