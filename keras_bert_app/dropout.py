"""Dropout, with cheap random numbers where TensorFlow has none."""

import keras
from keras import ops

from keras_bert_app.activations import PACKAGE
from keras_bert_app.fusing import fused, fuses, widened

MOST = 254 / 256  # of which bytes can decide


@keras.saving.register_keras_serializable(PACKAGE)
class Dropout(keras.layers.Dropout):  # a subclass: all but `call` is Keras's
    """Dropout for which, with TensorFlow, a random byte decides about an element.

    Keras makes a random float of each, a third of a training step of a small model on a CPU. A byte knows
    shares of 1/256; a rate between two of them is met on average over the calls. In graphs on a CPU that XLA
    compiles, see `fusing`, not even bytes are made, see `chosen`. Its arguments are those of
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

    def __init__(self, rate, *args, **kwargs):
        super().__init__(float(rate), *args, **kwargs)  # TensorFlow takes a number of NumPy for a tensor

    def call(self, x, training=False):
        if not training or not self.is_cheap:
            return super().call(x, training=training)
        if fuses(x.shape[-1]):
            return _drop(x, self.draw_key(), self.rate)
        return keep(x, self.draw(x), self.rate)

    @property
    def is_cheap(self):
        """True if it is not left to Keras what is dropped."""
        knows_rate = keras.config.backend() == "tensorflow" and 0 < self.rate <= MOST
        return knows_rate and self.noise_shape is None

    def draw(self, x):
        """What is kept of `x`, bool of its shape, with TensorFlow."""
        import tensorflow as tf

        number = tf.size(x)
        words = self._random((number + 8) // 8, tf.uint64)
        bits = tf.reshape(tf.bitcast(words, tf.uint8), (-1,))
        # The last one is left over: it chooses one of the two bytes next to the rate.
        least = (round(self.rate * 2**16) + tf.cast(bits[-1], tf.int32)) // 2**8
        return tf.reshape(bits[:number], tf.shape(x)) >= tf.cast(least, tf.uint8)

    def draw_key(self):
        """What decides in `chosen`, uint32 `(2,)`, with TensorFlow."""
        import tensorflow as tf

        return self._random(2, tf.uint32)

    def _random(self, number, dtype):
        import tensorflow as tf

        seed = tf.cast(self.seed_generator.next(), tf.int32)
        return tf.random.stateless_uniform((number,), seed, minval=None, maxval=None, dtype=dtype)


def _drop(x, key, rate):
    """`keep_chosen`, whose backward pass finds out anew what was dropped."""

    @ops.custom_gradient
    def drop(x):
        return fused(keep_chosen)(x, key, rate), lambda upstream: fused(keep_chosen)(upstream, key, rate)

    return drop(x)


def keep_chosen(x, key, rate):
    """`keep` of what is `chosen`; the factor is not rounded to the type of `x`."""
    return ops.cast(keep(widened(x), chosen(x, key, rate), rate), x.dtype)


def chosen(x, key, rate):
    """What is kept of `x` by a random key, bool of its shape; the same whenever it is computed.

    Of an element its place and the key decide, mixed as in MurmurHash3: where XLA compiles it with what is
    done to `x`, no random number goes through memory.

    Reference: [Appleby](https://github.com/aappleby/smhasher), `MurmurHash3.cpp`, `fmix32`, here without its
    last step, which does not move the upper bits.
    """
    import tensorflow as tf

    bitwise = tf.bitwise
    mixed = tf.bitcast(tf.reshape(tf.range(tf.size(x)), tf.shape(x)), tf.uint32)
    mixed = bitwise.bitwise_xor(mixed * bitwise.bitwise_or(key[0], tf.constant(1, tf.uint32)), key[1])
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = bitwise.bitwise_xor(mixed, bitwise.right_shift(mixed, tf.constant(shift, tf.uint32)))
        mixed *= tf.constant(factor, tf.uint32)
    return mixed >= tf.constant(round(rate * 2**32), tf.uint32)


def keep(x, is_kept, rate):
    """`x` where it is kept, scaled so that the mean stays, and 0 elsewhere."""
    return ops.where(is_kept, x * ops.cast(1 / (1 - rate), x.dtype), ops.zeros((), x.dtype))
