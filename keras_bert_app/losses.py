"""Losses that Keras does not have."""

from keras import ops

SAME = -1e9  # the logit of a text that is no wrong answer


def in_batch_negatives(scale):
    """A loss for which the other second texts of a batch are wrong answers to the first text of each pair.

    Args:
        scale: what cosines are multiplied with before the softmax.

    Returns:
        A function of `texts`, `(batch, 2)`, numbers that are the same for the same text, and `vectors`,
        float `(batch, 2, hidden)`, of length 1. It returns the cross-entropy of each pair in nats, float32
        `(batch,)`. A text that is a right answer elsewhere in the batch is not a wrong one.

    Example:

    >>> vectors = ops.reshape(ops.eye(4), (2, 2, 4))  # nothing is like anything else
    >>> ops.convert_to_numpy(in_batch_negatives(20.0)(ops.convert_to_tensor([[0, 1], [2, 3]]), vectors))
    array([0.6931472, 0.6931472], dtype=float32)

    Reference: [Henderson et al., 2017](https://arxiv.org/abs/1705.00652), section 4.
    """

    def loss(texts, vectors):
        first, second = vectors[:, 0], vectors[:, 1]
        logits = scale * ops.matmul(first, ops.transpose(second))  # (batch, batch)
        same = ops.equal(texts[:, :1], ops.transpose(texts[:, :1]))  # another answer to the same text
        same = ops.logical_or(same, ops.equal(texts[:, 1:], ops.transpose(texts[:, 1:])))
        right = ops.eye(ops.shape(logits)[0], dtype="bool")
        logits = ops.where(ops.logical_and(same, ops.logical_not(right)), SAME, logits)
        return ops.logsumexp(logits, axis=1) - ops.sum(ops.where(right, logits, 0.0), axis=1)

    return loss
