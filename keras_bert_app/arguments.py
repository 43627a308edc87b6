"""The checks of the numbers that a training is called with."""

import math

PRECISIONS = ("float32", "mixed_bfloat16")
WHOLE = ("epochs", "batch_size", "batch_tokens", "patience", "gradient_accumulation", "validate_every")
WHOLE += ("stride", "max_answer_length", "num_candidates", "num_choices", "top_k")  # of tasks
POSITIVE = ("learning_rate", "scale")
TRUTHS = ("normalize", "pairs", "no_answer", "is_entities")  # of tasks
NOT_NEGATIVE = ("weight_decay", "checkpoint_minutes")
SHARES = ("warmup", "dropout")


def check_labels(labels, least=2):
    """The labels as a list.

    Raises:
        ValueError: they are no names or numbers, fewer than `least`, or two are the same.
    """
    found = labels.tolist() if hasattr(labels, "tolist") else labels
    if isinstance(found, list | tuple):
        found = [label.item() if hasattr(label, "item") else label for label in found]
        usable = all(isinstance(label, str | int | float) for label in found)
        if usable and len({str(label).strip() for label in found}) >= max(len(found), least):
            return found
    raise ValueError(f"labels={labels!r}: give a list of names or numbers, each once")


def check_arguments(given, optional=()):
    """Raises ValueError if an argument of `finetune` or `pretrain`, or an option of a task, is not possible.

    Args:
        given: dict of arguments; those that are not listed above are not looked at.
        optional: names of those that may be None.
    """
    for name, value in given.items():
        if value is None and name in optional:
            continue
        if name in TRUTHS and not isinstance(value, bool):
            raise ValueError(f"{name}={value!r}: give True or False, on the command line true or false")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in POSITIVE + NOT_NEGATIVE + SHARES and not is_number:
            raise ValueError(f"{name}={value!r}: give a number")
        if name in WHOLE and (type(value) is not int or value < 1):
            raise ValueError(f"{name}={value!r}: give a whole number of at least 1")
        if name in POSITIVE and not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r}: give a number above 0")
        if name in NOT_NEGATIVE and not 0 <= value < math.inf:
            raise ValueError(f"{name}={value!r}: give a number of at least 0")
        if name in SHARES and not 0 <= value < 1:
            raise ValueError(f"{name}={value!r}: give a share of at least 0 and below 1")
        if name == "seed" and (type(value) is not int or not 0 <= value < 2**32):
            raise ValueError(f"seed={value!r}: give a whole number from 0 to {2**32 - 1}")
        if name == "precision" and value not in PRECISIONS:
            raise ValueError(f"precision={value!r}: one of {', '.join(PRECISIONS)}")
