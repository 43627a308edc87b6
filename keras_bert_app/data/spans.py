"""Spans of a context by the logits of their starts and ends: which are possible, and which are the best."""

import numpy as np


def contexts_of(features):
    """Which word pieces are of the context, list of bool arrays `(pieces,)`, one for each window."""
    rows = zip(features.rows["input_type_ids"], features.places["words"], strict=True)
    return [(types == 1) & (words >= 0) for types, words in rows]


def most_context(features, stride):
    """Which word pieces of a context are in the window that shows the most around them.

    Args:
        features: `Features` of windows over pairs of question and context, with `places`.
        stride: word pieces from the start of a window to that of the next.

    Returns:
        list with a bool array `(pieces,)` for each window: True for the pieces of the context that no other
        window shows with more on their shorter side; of equal ones the longer window counts, then the first.

    Reference: [google-research/bert](https://github.com/google-research/bert), `run_squad.py`,
    `_check_is_max_context`.
    """
    found, begin, contexts = [], 0, contexts_of(features)
    for count in np.bincount(features.examples).tolist():
        windows = contexts[begin : begin + count]
        found += _most_context(windows, stride)
        begin += count
    return found


def _most_context(windows, stride):
    """The same for the windows of one example."""
    sizes = [int(window.sum()) for window in windows]
    step = min(stride, sizes[0])  # the first of several windows is full
    best = np.full((len(windows) - 1) * step + sizes[-1], -1)
    owner = np.zeros(len(best), int)
    for number, size in enumerate(sizes):
        place = np.arange(size)
        score = 100 * np.minimum(place, size - 1 - place) + size
        part = slice(number * step, number * step + size)
        better = score > best[part]
        best[part] = np.where(better, score, best[part])
        owner[part] = np.where(better, number, owner[part])
    found = []
    for number, (window, size) in enumerate(zip(windows, sizes, strict=True)):
        chosen = window.copy()
        chosen[window] = owner[number * step : number * step + size] == number
        found.append(chosen)
    return found


def best_spans(start, end, may_start, is_context, longest, number):
    """The spans with the highest sum of logits.

    Args:
        start: float `(pieces,)`, logits that a span starts at a word piece.
        end: float `(pieces,)`, logits that it ends there.
        may_start: bool `(pieces,)`, where it may start.
        is_context: bool `(pieces,)`, where it may be.
        longest: most word pieces of a span.
        number: how many spans.

    Returns:
        list of at most `number` tuples `(sum, first, last)`, the best first: the word pieces `first` to
        `last`, both included.

    Example:

    >>> context = np.array([False, True, True, True])
    >>> best_spans(np.array([9, 0, 2, 1.0]), np.array([9, 3, 0, 1.0]), context, context, 2, 2)
    [(3.0, 1, 1), (3.0, 2, 3)]
    """
    first = np.flatnonzero(may_start)
    last = first[:, None] + np.arange(longest)  # (starts, longest)
    possible = last < len(end)
    possible &= is_context[np.minimum(last, len(end) - 1)]
    sums = start[first][:, None] + end[np.minimum(last, len(end) - 1)]
    sums = np.where(possible, sums, -np.inf).reshape(-1)
    some = np.arange(len(sums))
    if len(sums) > number:
        least = np.partition(sums, -number)[-number]
        some = np.flatnonzero(sums >= least)
    some = some[np.argsort(-sums[some], kind="stable")][:number]
    return [
        (float(sums[i]), int(first[i // longest]), int(last.reshape(-1)[i]))
        for i in some.tolist()
        if np.isfinite(sums[i])
    ]
