"""The tokens of a padded batch as the rows of a matrix, of which padding can be left out."""

import keras
import numpy as np
from keras import ops

from keras_bert_app.fusing import on_cpu
from keras_bert_app.lean import is_lean, is_portable


def _row_numbers(step):
    """Multiples of a step up to 64 of them, then of twice the step up to twice as many, and so on."""
    return step * np.concatenate(
        [np.arange(32), *(np.arange(32, 64) << doublings for doublings in range(16))]
    )


# Of the rows of a training step: XLA compiles for each. 64, 128 and so on, from 4,096 every 128th, from 8,192
# every 256th.
ROW_NUMBERS = _row_numbers(64)


class Tokens:
    """Where the tokens of a batch are.

    TensorFlow fuses a dense layer with its bias and activation only if its input is a matrix. The other
    backends need no such help: there the tokens stay in their batch.

    Args:
        mask: `(batch, length)`, non-zero where there is a token.
        training: True in a training step.
    """

    def __init__(self, mask, training=False):
        self.mask = mask
        self.length = ops.shape(mask)[1]
        self.is_flat = keras.config.backend() == "tensorflow" and not is_portable()
        self.training = training
        self.places = self.ranks = None
        if is_lean() and (on_cpu() or not training):
            self.places, self.ranks = _without_padding(mask, training)

    def rows(self, x):
        """`(batch, length, width)` as `(tokens, width)`."""
        if not self.is_flat:
            return x
        return self._moved(ops.reshape(x, (-1, x.shape[-1])), self._keep, self._spread)

    def batch(self, x):
        """`(tokens, width)` as `(batch, length, width)`."""
        if not self.is_flat:
            return x
        return ops.reshape(self._moved(x, self._spread, self._keep), (-1, self.length, x.shape[-1]))

    def split(self, x, heads):
        """`(tokens, width)` as `(batch, heads, length, width / heads)`."""
        size = x.shape[-1] // heads
        if self.places is None or self.training:
            return ops.transpose(ops.reshape(self.batch(x), (-1, self.length, heads, size)), (0, 2, 1, 3))
        import tensorflow as tf

        # Each head of a token is a row here, so that one pass over memory does all.
        ranks = tf.reshape(self.ranks, (-1, 1, self.length))
        return tf.gather(tf.reshape(x, (-1, size)), ranks * heads + tf.range(heads)[:, None])

    def join(self, x):
        """`(batch, heads, length, size)` as `(tokens, heads * size)`, see `split`."""
        _, heads, _, size = x.shape
        if self.places is None or self.training:
            return self.rows(ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, self.length, heads * size)))
        import tensorflow as tf

        places = tf.cast(self.places, tf.int32)
        places += places // self.length * (self.length * (heads - 1))  # of the first head
        places = places[:, None] + tf.range(heads) * self.length
        return tf.reshape(tf.gather(tf.reshape(x, (-1, size)), places), (-1, heads * size))

    def _moved(self, x, function, gradient):
        """`function(x)`. TensorFlow's own gradient would add up, row by row, what only has to move back."""
        if self.places is None:
            return x
        return ops.custom_gradient(lambda x: (function(x), gradient))(x) if self.training else function(x)

    def _keep(self, x):
        """The rows of a matrix that are kept."""
        import tensorflow as tf

        return tf.gather(x, self.places)  # `ops.take` would allow for negative ones, in five operations more

    def _spread(self, x):
        """The rows that were kept where they were, and between them, in training, 0."""
        import tensorflow as tf

        return tf.gather(tf.pad(x, ((0, 1), (0, 0))) if self.training else x, self.ranks)


def _without_padding(mask, training):
    """The places in the flat batch that are kept, `(tokens,)`, and the rank of each place among them.

    The ranks are `(batch * length,)`: of padding that of some token, or in training one that no token has.
    """
    import tensorflow as tf

    is_kept = tf.cast(mask, tf.bool)
    # A row of padding alone attends to all of it; and the first position is what the pooler takes.
    is_kept |= ~tf.reduce_any(is_kept, axis=1, keepdims=True) | (tf.range(tf.shape(mask)[1]) == 0)
    is_kept = tf.reshape(is_kept, (-1,))
    if training:
        kept = tf.math.count_nonzero(is_kept, dtype=tf.int32)
        numbers = tf.constant(ROW_NUMBERS, tf.int32)
        missing = numbers[tf.searchsorted(numbers, kept[None])[0]] - kept  # if there is so much padding
        is_kept |= tf.cumsum(tf.cast(~is_kept, tf.int32)) <= missing
    ranks = tf.cumsum(tf.cast(is_kept, tf.int32)) - 1
    others = ranks[-1] + 1 if training else tf.maximum(ranks, 0)
    return tf.reshape(tf.where(is_kept), (-1,)), tf.where(is_kept, ranks, others)
