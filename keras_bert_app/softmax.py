"""What attention does with its scores in training, with TensorFlow on a CPU."""

from keras import ops

from keras_bert_app.dropout import keep
from keras_bert_app.fusing import fused, row_sums


def attend(scores, bias, is_kept, rate, value):
    """Dropout of the softmax of `scores + bias`, times `value`.

    One pass over memory for the softmax, one for its gradient. Of all that is `length * length`, one tensor
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
            weights_slope = tf.matmul(upstream, value, transpose_b=True)
            slope, weights = fused(_softmax_slope)(weights_slope, signed, rate)
            return slope, tf.matmul(weights, upstream, transpose_a=True)

        return tf.matmul(weights, value), grad

    return attended(scores, value)


def _softmax(scores, bias, is_kept, rate):
    wide = ops.cast(scores, "float32") + ops.cast(bias, "float32")
    powers = ops.exp(wide - ops.max(wide, -1, keepdims=True))
    softmax = powers / row_sums(powers)
    signed = ops.cast(ops.where(is_kept, softmax, -softmax), scores.dtype)
    return ops.cast(keep(softmax, is_kept, rate), scores.dtype), signed


def _softmax_slope(upstream, signed, rate):
    wide = ops.cast(signed, "float32")
    is_kept, softmax = wide > 0, ops.absolute(wide)
    slope = keep(ops.cast(upstream, "float32"), is_kept, rate)
    slope = softmax * (slope - row_sums(slope * softmax))
    return ops.cast(slope, upstream.dtype), ops.cast(keep(softmax, is_kept, rate), upstream.dtype)
