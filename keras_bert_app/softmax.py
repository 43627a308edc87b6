"""What attention does with its scores in training, with TensorFlow on a CPU."""

from keras import ops

from keras_bert_app.dropout import chosen, keep, keep_chosen
from keras_bert_app.fusing import fused, row_sums, widened


def attend(scores, bias, key, rate, value):
    """Dropout of the softmax of `scores + bias`, times `value`.

    One pass over memory for the bias, one for the softmax, one for the dropout, one for the gradient of all.
    Of all that is `length * length`, one tensor is kept for the backward pass: the softmax.

    Args:
        scores: float `(batch, heads, length, length)`.
        bias: float, added to the scores; it has no gradient.
        key: uint32 `(2,)`, see `dropout.chosen`.
        rate: share that is dropped.
        value: float `(batch, heads, length, head_size)`.

    Returns:
        float, of the shape of `value`.
    """
    import tensorflow as tf

    @ops.custom_gradient
    def attended(scores, value):
        softmax = tf.nn.softmax(scores + bias)  # in bfloat16 twice as fast as by XLA
        y = tf.matmul(fused(keep_chosen)(softmax, key, rate), value)

        def grad(upstream):
            weights_slope = tf.matmul(upstream, value, transpose_b=True)
            slope, weights = fused(_softmax_slope)(weights_slope, softmax, upstream, y, key, rate)
            return slope, tf.matmul(weights, upstream, transpose_a=True)

        return y, grad

    return attended(scores, value)


def _softmax_slope(weights_slope, softmax, upstream, y, key, rate):
    """The gradient of the scores, and the weights once more.

    The sum over a row of the weights' gradient times the weights is that of `upstream * y`, which are
    shorter ([Dao et al., 2022](https://arxiv.org/abs/2205.14135), appendix B.2); it is as exact as `y`.
    """
    is_kept, wide = chosen(softmax, key, rate), widened(softmax)
    mean = row_sums(widened(upstream) * widened(y))
    slope = wide * (keep(widened(weights_slope), is_kept, rate) - mean)
    return ops.cast(slope, softmax.dtype), ops.cast(keep(wide, is_kept, rate), softmax.dtype)
