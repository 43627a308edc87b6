"""Dropout, with cheap random numbers where TensorFlow has none."""

import keras
from keras import ops

from keras_bert_app.activations import PACKAGE
from keras_bert_app.fusing import fused, fuses

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
        if not training or not self.takes_bytes:
            return super().call(x, training=training)
        return (fused(keep) if fuses(x.shape[-1]) else keep)(x, self.draw(x), self.rate)

    @property
    def takes_bytes(self):
        """True if random bytes decide."""
        by_bytes = keras.config.backend() == "tensorflow" and 0 < self.rate <= MOST
        return by_bytes and self.noise_shape is None

    def draw(self, x):
        """What is kept of `x`, bool of its shape, with TensorFlow."""
        import tensorflow as tf

        number = tf.size(x)
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        words = tf.random.stateless_uniform(
            ((number + 8) // 8,), seed, minval=None, maxval=None, dtype=tf.uint64
        )
        bits = tf.reshape(tf.bitcast(words, tf.uint8), (-1,))
        # The last one is left over: it chooses one of the two bytes next to the rate.
        least = (round(self.rate * 2**16) + tf.cast(bits[-1], tf.int32)) // 2**8
        return tf.reshape(bits[:number], tf.shape(x)) >= tf.cast(least, tf.uint8)


def keep(x, is_kept, rate):
    """`x` where it is kept, scaled so that the mean stays, and 0 elsewhere."""
    return ops.where(is_kept, x * ops.cast(1 / (1 - rate), x.dtype), ops.zeros((), x.dtype))
