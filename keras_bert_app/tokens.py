"""The tokens of a padded batch as the rows of a matrix, of which padding can be left out."""

import keras
from keras import ops

from keras_bert_app.lean import is_lean


class Tokens:
    """Where the tokens of a batch are.

    TensorFlow fuses a dense layer with its bias and activation only if its input is a matrix. The other
    backends need no such help: there the tokens stay in their batch.

    Args:
        mask: `(batch, length)`, non-zero where there is a token.
    """

    def __init__(self, mask):
        self.length = ops.shape(mask)[1]
        self.is_flat = keras.config.backend() == "tensorflow"
        self.places = self.ranks = None
        if is_lean():
            self.places, self.ranks = _without_padding(mask)

    def rows(self, x):
        """`(batch, length, width)` as `(tokens, width)`."""
        return _gather(ops.reshape(x, (-1, x.shape[-1])), self.places) if self.is_flat else x

    def batch(self, x):
        """`(tokens, width)` as `(batch, length, width)`."""
        if not self.is_flat:
            return x
        return ops.reshape(_gather(x, self.ranks), (-1, self.length, x.shape[-1]))


def _without_padding(mask):
    """The place of each token in the flat batch, `(tokens,)`; the token of each, `(batch * length,)`."""
    import tensorflow as tf

    is_token = tf.cast(mask, tf.bool)
    # A row of padding alone attends to all of it; and the first position is what the pooler takes.
    is_token |= ~tf.reduce_any(is_token, axis=1, keepdims=True) | (tf.range(tf.shape(mask)[1]) == 0)
    is_token = tf.reshape(is_token, (-1,))
    ranks = tf.cumsum(tf.cast(is_token, tf.int32)) - 1
    return tf.reshape(tf.where(is_token), (-1,)), tf.maximum(ranks, 0)


def _gather(x, indices):
    """The rows of a tensor of TensorFlow, all of them if `indices` is None."""
    if indices is None:
        return x
    import tensorflow as tf

    return tf.gather(x, indices)  # `ops.take` would allow for negative ones, in five operations more
