"""Many operations of TensorFlow on each element of large tensors as one, which XLA compiles."""

import functools

import keras

# The width of rows from which on it pays; of variables its square: XLA takes a tenth of a second a shape.
MANY = 512


def fused(function):
    """`function` of tensors with one pass over memory in the place of one for each operation.

    So it is in graphs of TensorFlow. Elsewhere it is the function as it is: other backends either compile
    all, or nothing.
    """

    @functools.wraps(function)
    def run(*args):
        if keras.config.backend() == "tensorflow" and _in_a_graph():
            return _compiled(function)(*args)
        return function(*args)

    return run


def _in_a_graph():
    import tensorflow as tf

    return not tf.executing_eagerly()


@functools.cache
def _compiled(function):
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)
