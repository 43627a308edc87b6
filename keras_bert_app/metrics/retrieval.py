"""How well texts find the texts that belong to them."""

import numpy as np

BLOCK = 1024  # rows whose scores are in memory at once


def retrieval(first, second, texts, scale):
    """How good vectors are for finding, by the first text of each pair, its second among all of them.

    Args:
        first: float `(pairs, hidden)`, vectors of length 1.
        second: float `(pairs, hidden)`.
        texts: int `(pairs, 2)`, numbers that are the same for the same text.
        scale: what cosines are multiplied with for the loss.

    Returns:
        dict: `mean_reciprocal_rank`, the mean of one divided by the rank of the right text, from 0 to 1;
        `accuracy`, the share that is found at rank 1; `loss`, the mean cross-entropy in nats; and `ranks`,
        int `(pairs,)`. Other pairs with the same first or second text are right too, and do not count.

    Example:

    >>> found = retrieval(np.eye(3), np.eye(3)[[0, 2, 1]], np.arange(6).reshape(3, 2), 20.0)
    >>> found["ranks"], round(found["accuracy"], 3)
    (array([1, 3, 3]), 0.333)
    """
    ranks, losses = [], []
    for start in range(0, len(first), BLOCK):
        scores = first[start : start + BLOCK] @ second.T
        rows = np.arange(len(scores))
        right = scores[rows, start + rows][:, None]
        others = (texts[start : start + BLOCK, None] != texts[None]).all(axis=2)
        ranks.append(1 + ((scores >= right) & others).sum(axis=1))  # an equal one may come before
        powers = np.exp(scale * (np.where(others, scores, -np.inf) - right))
        losses.append(np.log1p(powers.sum(axis=1)))
    ranks = np.concatenate(ranks)
    return {
        "mean_reciprocal_rank": float((1 / ranks).mean()),
        "accuracy": float((ranks == 1).mean()),
        "loss": float(np.concatenate(losses).mean()),
        "ranks": ranks,
    }
