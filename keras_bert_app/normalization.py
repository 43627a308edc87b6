"""Layer normalization, for any Keras backend."""

import keras

from keras_bert_app.activations import PACKAGE
from keras_bert_app.lean import is_lean


@keras.saving.register_keras_serializable(PACKAGE)
class LayerNorm(keras.layers.LayerNormalization):  # a subclass: all but `call` is Keras's
    """Layer normalization, which TensorFlow makes one operation of in `lean_inference`.

    Its arguments are those of `keras.layers.LayerNormalization`; it is over the last axis.

    Call arguments:
        x: float `(..., hidden)`.

    Returns:
        float `(..., hidden)`.

    Example:

    >>> LayerNorm(epsilon=1e-12)(keras.ops.ones((3, 7, 10))).shape
    TensorShape([3, 7, 10])

    Reference: [Ba et al., 2016](https://arxiv.org/abs/1607.06450)
    """

    def call(self, x):
        if is_lean():
            return _fused_layer_norm(x, self.gamma, self.beta, self.epsilon)
        return super().call(x)


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
