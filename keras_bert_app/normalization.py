"""Layer normalization, for any Keras backend."""

import keras
from keras import ops

from keras_bert_app.activations import PACKAGE
from keras_bert_app.lean import is_lean


@keras.saving.register_keras_serializable(PACKAGE)
class LayerNorm(keras.layers.Layer):
    """Layer normalization over the last axis, in float32.

    That of Keras, but for `lean_inference`, where it is the operations that TensorFlow fuses into one.

    Args:
        epsilon: is added to the variance.

    Call arguments:
        x: float `(..., hidden)`.

    Returns:
        float `(..., hidden)`.

    Example:

    >>> LayerNorm(epsilon=1e-12)(keras.ops.ones((3, 7, 10))).shape
    TensorShape([3, 7, 10])

    Reference: [Ba et al., 2016](https://arxiv.org/abs/1607.06450)
    """

    def __init__(self, epsilon, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, x_shape):
        self.gamma = self.add_weight(name="gamma", shape=x_shape[-1:], initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=x_shape[-1:], initializer="zeros", autocast=False)

    def call(self, x):
        if is_lean():
            return _fused_layer_norm(x, self.gamma, self.beta, self.epsilon)
        y = ops.layer_normalization(x, self.gamma, self.beta, -1, self.epsilon)
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


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
