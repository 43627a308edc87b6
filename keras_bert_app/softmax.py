"""What attention does with its scores in training, with TensorFlow on a CPU."""

from keras import ops

from keras_bert_app.dropout import keep
from keras_bert_app.fusing import fused, row_sums


def attend(scores, bias, is_kept, rate, value):
    """Dropout of the softmax of `scores + bias`, times `value`.

    The softmax and its gradient are one pass over memory each. Of all that is `length * length`, one number
    is kept for the backward pass: the softmax, negative where it was dropped.

    Args:
        scores: float `(batch, heads, length, length)`.
        bias: float, added to the scores; it has no gradient.
        is_kept: bool, of the shape of the scores, see `dropout.keep`.
        rate: share that is dropped.
        value: float `(batch, heads, length, head_size)`.

    Returns:
        float, of the shape of `value`.
    """
    import tensorflow as tf

    @ops.custom_gradient
    def attended(scores, value):
        weights, signed = fused(_softmax)(scores, bias, is_kept, rate)

        def grad(upstream):
            slope = fused(_softmax_slope)(tf.matmul(upstream, value, transpose_b=True), signed, rate)
            return slope, tf.matmul(fused(_weights)(signed, rate), upstream, transpose_a=True)

        return tf.matmul(weights, value), grad

    return attended(scores, value)


def _softmax(scores, bias, is_kept, rate):
    wide = ops.cast(scores, "float32") + ops.cast(bias, "float32")
    powers = ops.exp(wide - ops.max(wide, -1, keepdims=True))
    softmax = powers / row_sums(powers)
    signed = ops.cast(ops.where(is_kept, softmax, -softmax), scores.dtype)
    return ops.cast(keep(softmax, is_kept, rate), scores.dtype), signed


def _weights(signed, rate):
    return keep(signed, signed > 0, rate)


def _softmax_slope(upstream, signed, rate):
    wide = ops.cast(signed, "float32")
    slope, wide = keep(ops.cast(upstream, "float32"), wide > 0, rate), ops.absolute(wide)
    return ops.cast(wide * (slope - row_sums(slope * wide)), upstream.dtype)
