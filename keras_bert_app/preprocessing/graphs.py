"""Functions of TensorFlow that become graphs once they are called often."""

import numbers
from collections import Counter

import tensorflow as tf

OFTEN = 8  # calls; a graph takes some tenths of a second, and saves a few milliseconds of each call
MOST = 8  # graphs


class Graphs:
    """The graphs of functions of texts, of those that have been called often."""

    def __init__(self):
        self._calls, self._made = Counter(), {}

    def run(self, function, state, segments, *options):
        """`function(segments, *options)`.

        Args:
            function: of a tuple of string tensors `(batch,)`.
            state: a tuple of what else its result depends on; of another state there is another graph.
            segments: the tuple.
            options: what else it takes; a graph is made if they are whole numbers, True, False or None.
        """
        plain = all(isinstance(segment, tf.Tensor) for segment in segments)
        constant = all(option is None or isinstance(option, numbers.Integral) for option in options)
        if not (tf.executing_eagerly() and plain and constant):
            return function(segments, *options)
        key = function, state, len(segments), options
        self._calls[key] += 1
        if key not in self._made:
            if self._calls[key] <= OFTEN or len(self._made) == MOST:
                return function(segments, *options)
            self._made[key] = tf.function(
                lambda *segments: function(segments, *options),
                input_signature=[tf.TensorSpec([None], tf.string)] * len(segments),
                autograph=False,
            )
        return self._made[key](*segments)
