"""Dropout, with cheap random numbers where TensorFlow has none."""

import keras

from keras_bert_app.activations import PACKAGE

MOST = 254 / 256  # of which bytes can decide


@keras.saving.register_keras_serializable(PACKAGE)
class Dropout(keras.layers.Dropout):  # a subclass: all but `call` is Keras's
    """Dropout for which, with TensorFlow, a random byte decides about an element.

    Keras makes a random float of each, a third of a training step of a small model on a CPU. A byte knows
    shares of 1/256; a rate between two of them is met on average over the calls. Its arguments are those of
    `keras.layers.Dropout`.

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

    def call(self, x, training=False):
        by_bytes = keras.config.backend() == "tensorflow" and 0 < self.rate <= MOST
        if training and by_bytes and self.noise_shape is None:
            return _drop(x, self.rate, self.seed_generator.next())
        return super().call(x, training=training)


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
