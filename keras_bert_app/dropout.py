"""Dropout, with cheap random numbers where TensorFlow has none."""

import keras

from keras_bert_app.activations import PACKAGE

MOST = 254 / 256  # of which bytes can decide


@keras.saving.register_keras_serializable(PACKAGE)
class Dropout(keras.layers.Layer):
    """Sets a share of its input to 0 in training, and scales the rest so that the sum stays alike.

    With TensorFlow a random byte decides about an element, where Keras makes a random float of each and so
    spends a third of a training step of a small model on a CPU. A byte knows shares of 1/256; that between
    two of them is met on average over the calls.

    Args:
        rate: the share.
        seed: int, or None for `keras.random`'s.

    Call arguments:
        x: float, any shape.
        training: True to drop anything.

    Returns:
        As `x`.

    Example:

    >>> Dropout(rate=0.1)(keras.ops.ones((3, 7, 10)), training=True).shape
    TensorShape([3, 7, 10])

    Reference: [Srivastava et al., 2014](https://jmlr.org/papers/v15/srivastava14a.html)
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate={rate}: a share of at least 0 and less than 1")
        self.rate = rate
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed) if rate > 0 else None
        self.built = True

    def call(self, x, training=False):
        if not training or self.rate == 0:
            return x
        if keras.config.backend() == "tensorflow" and self.rate <= MOST:
            return _drop(x, self.rate, self.seed_generator.next())
        return keras.random.dropout(x, self.rate, seed=self.seed_generator)

    def compute_output_shape(self, x_shape):
        return x_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def _drop(x, rate, seed):
    import tensorflow as tf

    number = tf.size(x)
    words = tf.random.stateless_uniform(
        ((number + 8) // 8,), tf.cast(seed, tf.int32), minval=None, maxval=None, dtype=tf.uint64
    )
    bits = tf.reshape(tf.bitcast(words, tf.uint8), (-1,))
    # The last one is left over: it chooses one of the two bytes next to the rate.
    least = (round(rate * 2**16) + tf.cast(bits[-1], tf.int32)) // 2**8
    is_kept = tf.reshape(bits[:number], tf.shape(x)) >= tf.cast(least, tf.uint8)
    scale, zero = tf.cast(1 / (1 - rate), x.dtype), tf.zeros((), x.dtype)
    return tf.where(is_kept, x * scale, zero)
