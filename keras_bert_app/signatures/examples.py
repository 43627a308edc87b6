"""Signatures that take `tf.Example`s, for classify and regress of TensorFlow Serving."""

import tensorflow as tf


def of_examples(names, function):
    """A signature that takes serialized `tf.Example`s.

    Args:
        names: features of an example, each one text.
        function: of a string tensor `(batch,)` for each.

    Returns:
        `(function, signature)`; the function takes `inputs`, string `(batch,)`.
    """
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in names}

    def with_examples(inputs):
        found = tf.io.parse_example(tf.ensure_shape(inputs, [None]), features)
        return function(*(found[name] for name in names))

    return with_examples, [tf.TensorSpec([None], tf.string, name="inputs")]
