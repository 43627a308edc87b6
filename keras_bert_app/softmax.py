"""Softmax and dropout of attention in training, with TensorFlow on a CPU."""

from keras import ops

from keras_bert_app.dropout import keep
from keras_bert_app.fusing import fused, row_sums


def dropped_softmax(scores, bias, is_kept, rate):
    """Dropout of the softmax of `scores + bias`, with one pass over memory for each direction.

    Args:
        scores: float `(batch, heads, length, length)`.
        bias: float, added to the scores; it has no gradient.
        is_kept: bool, of the shape of the scores, see `dropout.keep`.
        rate: share that is dropped.

    Returns:
        float, of the shape of the scores.
    """

    @ops.custom_gradient
    def dropped(scores):
        value, softmax = fused(_softmax)(scores, bias, is_kept, rate)
        return value, lambda upstream: fused(_softmax_slope)(upstream, softmax, is_kept, rate)

    return dropped(scores)


def _softmax(scores, bias, is_kept, rate):
    wide = ops.cast(scores, "float32") + ops.cast(bias, "float32")
    powers = ops.exp(wide - ops.max(wide, -1, keepdims=True))
    softmax = powers / row_sums(powers)
    return ops.cast(keep(softmax, is_kept, rate), scores.dtype), ops.cast(softmax, scores.dtype)


def _softmax_slope(upstream, softmax, is_kept, rate):
    slope, wide = keep(ops.cast(upstream, "float32"), is_kept, rate), ops.cast(softmax, "float32")
    return ops.cast(wide * (slope - row_sums(slope * wide)), upstream.dtype)
