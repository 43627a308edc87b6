"""Layer normalization, for any Keras backend."""

import keras
from keras import ops

from keras_bert_app.activations import PACKAGE
from keras_bert_app.dropout import keep_chosen
from keras_bert_app.fusing import fused, fuses, row_sums, widened
from keras_bert_app.lean import is_lean, is_portable


@keras.saving.register_keras_serializable(PACKAGE)
class LayerNorm(keras.layers.LayerNormalization):  # a subclass: all but `call` is Keras's
    """Layer normalization, which TensorFlow makes one operation of in `lean_models`.

    In training with TensorFlow on a CPU, wide rows go through memory once for the value and once for the
    gradient. Its arguments are those of `keras.layers.LayerNormalization`; it is over the last axis.

    Call arguments:
        x: float `(..., hidden)`.
        training: True in a training step.

    Returns:
        float `(..., hidden)`.

    Example:

    >>> LayerNorm(epsilon=1e-12)(keras.ops.ones((3, 7, 10))).shape
    TensorShape([3, 7, 10])

    Reference: [Ba et al., 2016](https://arxiv.org/abs/1607.06450)
    """

    def call(self, x, training=False):
        if not self._is_plain:
            return super().call(x)
        if is_lean() and not training and x.dtype != "float64":
            return _fused_layer_norm(x, self.gamma, self.beta, self.epsilon)
        if is_portable():
            return _layer_norm(x, self.gamma, self.beta, self.epsilon)
        if training and fuses(x.shape[-1]):
            return _with_gradient(x, self.gamma, self.beta, self.epsilon)
        return super().call(x)

    @property
    def _is_plain(self):
        return self.center and self.scale and self.axis == [-1] and not self.rms_scaling

    def of_sum(self, x, y, drop, training=False):
        """The layer's value of `x + drop(y)`, where `call` goes through memory once, with dropout and sum.

        Args:
            x, y: float `(..., hidden)`.
            drop: `Dropout`.
            training: True in a training step.

        Returns:
            float `(..., hidden)`.
        """
        if training and self._is_plain and drop.is_cheap and fuses(x.shape[-1]):
            return _of_sum(x, y, drop.draw_key(), drop.rate, self.gamma, self.beta, self.epsilon)
        return self(x + drop(y, training=training), training=training)


def _fused_layer_norm(x, gamma, beta, epsilon):
    """Layer normalization as TensorFlow's optimizer of graphs knows it: a batch of one, a channel a token."""
    import tensorflow as tf

    none = tf.constant([], tf.float32)
    hidden = x.shape[-1]
    number = tf.size(x) // hidden
    y = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(x, (1, number, hidden, 1)), scale=tf.ones((number,)), offset=tf.zeros((number,)),
        mean=none, variance=none, epsilon=epsilon, data_format="NCHW",
    ).y  # fmt: skip
    return tf.reshape(y, tf.shape(x)) * tf.cast(gamma, x.dtype) + tf.cast(beta, x.dtype)


def _layer_norm(x, gamma, beta, epsilon):
    """Layer normalization, operation by operation as other runtimes know it."""
    centered = x - ops.mean(x, [-1], keepdims=True)
    variance = ops.mean(ops.power(centered, 2.0), [-1], keepdims=True)
    return centered / ops.sqrt(variance + epsilon) * gamma + beta


def _with_gradient(x, gamma, beta, epsilon):
    """Layer normalization that keeps the normalized rows and their scales for the backward pass."""

    @ops.custom_gradient
    def norm(x, gamma, beta):
        y, normalized, scale = fused(_norm)(x, gamma, beta, epsilon)
        return y, lambda upstream: fused(_norm_slopes)(upstream, normalized, scale, gamma)

    return norm(x, gamma, beta)


def _of_sum(x, y, key, rate, gamma, beta, epsilon):
    """The same of `x + keep_chosen(y, key, rate)`."""

    @ops.custom_gradient
    def norm(x, y, gamma, beta):
        value, normalized, scale = fused(_norm_of_sum)(x, y, key, rate, gamma, beta, epsilon)

        def grad(upstream):
            return fused(_norm_of_sum_slopes)(upstream, normalized, scale, gamma, key, rate)

        return value, grad

    return norm(x, y, gamma, beta)


def _norm(x, gamma, beta, epsilon):
    wide = widened(x)
    centered = wide - _mean(wide)
    scale = ops.rsqrt(_mean(ops.square(centered)) + epsilon)
    normalized = centered * scale
    y = normalized * ops.cast(gamma, wide.dtype) + ops.cast(beta, wide.dtype)
    return ops.cast(y, x.dtype), ops.cast(normalized, x.dtype), scale


def _norm_slopes(upstream, normalized, scale, gamma):
    y_slope, wide = widened(upstream), widened(normalized)
    axes = tuple(range(len(upstream.shape) - 1))
    gamma_slope, beta_slope = ops.sum(y_slope * wide, axes), ops.sum(y_slope, axes)
    slope = y_slope * ops.cast(gamma, wide.dtype)
    slope = (slope - _mean(slope) - wide * _mean(slope * wide)) * scale
    return ops.cast(slope, upstream.dtype), *(ops.cast(s, gamma.dtype) for s in (gamma_slope, beta_slope))


def _norm_of_sum(x, y, key, rate, gamma, beta, epsilon):
    total = widened(x) + keep_chosen(widened(y), key, rate)
    value, normalized, scale = _norm(total, gamma, beta, epsilon)
    return ops.cast(value, x.dtype), ops.cast(normalized, x.dtype), scale


def _norm_of_sum_slopes(upstream, normalized, scale, gamma, key, rate):
    slope, *others = _norm_slopes(widened(upstream), normalized, scale, gamma)
    kept = keep_chosen(slope, key, rate)
    return ops.cast(slope, upstream.dtype), ops.cast(kept, upstream.dtype), *others


def _mean(x):
    return row_sums(x) / x.shape[-1]
