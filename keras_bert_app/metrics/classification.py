"""Accuracy, precision, recall, F1 and correlations of labels and numbers."""

import numpy as np


def single_label(truth, probabilities, labels):
    """How good one label for each example is.

    Args:
        truth: int `(examples,)`, the index of the right label.
        probabilities: float `(examples, labels)`.
        labels: the label of each column.

    Returns:
        dict: `accuracy`; `macro_f1`, the mean of the F1 of all labels; `matthews_correlation`, from -1
        to 1, 0 for guesses; `loss`, the mean cross-entropy in nats; `per_class`, for each label its
        `precision`, `recall`, `f1` and `support`; `confusion_matrix`, a row for each true and a column
        for each predicted label.

    Example:

    >>> report = single_label(np.array([0, 1, 1]), np.array([[.9, .1], [.2, .8], [.6, .4]]), ["no", "yes"])
    >>> round(report["accuracy"], 3), report["confusion_matrix"]
    (0.667, [[1, 0], [1, 1]])

    Reference: [Gorodkin, 2004](https://doi.org/10.1016/j.compbiolchem.2004.09.006), the correlation of
    more than two labels.
    """
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (truth, predicted), 1)
    right, true, given = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    total = len(truth)
    spread = [float(total**2 - (counts**2).sum()) for counts in (true, given)]
    covariance = float(right.sum() * total - true @ given)
    per_class = _per_class(right, given, true, labels)
    losses = -np.log(np.maximum(probabilities[np.arange(total), truth], 1e-30))
    return {
        "accuracy": float(right.sum() / total),
        "macro_f1": _mean_f1(per_class),
        "matthews_correlation": covariance / np.sqrt(spread[0] * spread[1]) if all(spread) else 0.0,
        "loss": float(losses.mean()),
        "per_class": per_class,
        "confusion_matrix": confusion.tolist(),
    }


def multi_label(truth, probabilities, labels, threshold):
    """How good any number of labels for each example are.

    Args:
        truth: int `(examples, labels)`, 1 for the right labels.
        probabilities: float `(examples, labels)`.
        labels: the label of each column.
        threshold: the probability from which on a label is given.

    Returns:
        dict: `micro_f1`, of all labels of all examples together; `macro_f1`, the mean of the F1 of all
        labels; `exact_match`, the share of examples with exactly the right labels; `loss`, the mean
        binary cross-entropy in nats; `per_class`, see `single_label`.

    Example:

    >>> report = multi_label(np.array([[1, 0], [1, 1]]), np.array([[.9, .1], [.2, .8]]), ["a", "b"], 0.5)
    >>> report["exact_match"], report["micro_f1"]
    (0.5, 0.8)
    """
    predicted = probabilities >= threshold
    right, given, true = (a.sum(axis=0) for a in (predicted & (truth == 1), predicted, truth))
    per_class = _per_class(right, given, true, labels)
    of_truth = np.where(truth == 1, probabilities, 1 - probabilities)
    return {
        "micro_f1": float(_ratio(2 * right.sum(), given.sum() + true.sum())),
        "macro_f1": _mean_f1(per_class),
        "exact_match": float((predicted == truth).all(axis=1).mean()),
        "loss": float(-np.log(np.maximum(of_truth, 1e-30)).mean()),
        "per_class": per_class,
    }


def best_threshold(truth, probabilities):
    """The threshold that gives the best micro F1, halfway between two probabilities; 0.5 without any label.

    Args:
        truth: int `(examples, labels)`, 1 for the right labels.
        probabilities: float `(examples, labels)`.

    Example:

    >>> round(best_threshold(np.array([[1, 0], [1, 0]]), np.array([[0.4, 0.2], [0.9, 0.1]])), 3)
    0.3
    """
    order = np.argsort(-probabilities.reshape(-1), kind="stable")
    values, right = probabilities.reshape(-1)[order].astype("float64"), np.cumsum(truth.reshape(-1)[order])
    if not right[-1]:
        return 0.5
    below = np.append(values[1:], 0.0)
    ends = np.flatnonzero(values > below)  # where a threshold can be
    best = ends[np.argmax(2 * right[ends] / (ends + 1 + right[-1]))]
    return float(values[best] + below[best]) / 2


def regression(truth, values):
    """How good numbers are.

    Args:
        truth: float `(examples,)`.
        values: float `(examples,)`.

    Returns:
        dict: `pearson` and `spearman`, the correlations of the numbers and of their ranks, from -1 to 1,
        0 if all numbers are the same; `mean_absolute_error`; `loss`, the mean squared error.

    Example:

    >>> report = regression(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 9.0]))
    >>> round(report["spearman"], 4), report["mean_absolute_error"]
    (1.0, 2.0)
    """
    return {
        "pearson": correlation(truth, values),
        "spearman": correlation(_ranks(truth), _ranks(values)),
        "mean_absolute_error": float(np.abs(truth - values).mean()),
        "loss": float(((truth - values) ** 2).mean()),
    }


def correlation(first, second):
    """Pearson's correlation of two float arrays `(examples,)`, 0 if one of them is constant."""
    first, second = (np.asarray(values, "float64") for values in (first, second))
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / scale) if scale > 0 else 0.0


def _ranks(values):
    """The rank of each value; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _per_class(right, given, true, labels):
    precision, recall = _ratio(right, given), _ratio(right, true)
    f1 = _ratio(2 * right, given + true)
    return {
        str(label): {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(true[i]),
        }
        for i, label in enumerate(labels)
    }


def _mean_f1(per_class):
    return float(np.mean([row["f1"] for row in per_class.values()]))


def _ratio(part, whole):
    """`part / whole`, and 0 where `whole` is 0."""
    return np.where(np.equal(whole, 0), 0.0, part / np.maximum(whole, 1))
