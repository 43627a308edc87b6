"""Many operations of TensorFlow on each element of large tensors as one, which XLA compiles."""

import contextlib
import functools
import threading

import keras
from keras import ops

# The width of rows from which on it pays: XLA takes some tenths of a second a shape.
MANY = 256

_state = threading.local()


def on_cpu():
    """True with TensorFlow on a CPU."""
    if keras.config.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def fuses(width):
    """True if `fused` is to be used: in graphs of TensorFlow on a CPU, for rows wide enough for XLA to pay.

    Other backends either compile all, or nothing.
    """
    is_off = getattr(_state, "is_off", False)
    if is_off or width is None or width < MANY or not on_cpu():
        return False
    import tensorflow as tf

    return not tf.executing_eagerly()


@functools.cache
def fused(function):
    """`function` of tensors with one pass over memory in the place of one for each operation."""
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


@contextlib.contextmanager
def nothing_fused():
    """Within it, or in a function that it decorates, models are called without XLA.

    A gradient has to be taken within it too: what is rematerialized is called once more for it.
    """
    _state.is_off = True
    try:
        yield
    finally:
        _state.is_off = False


def widened(x):
    """`x` in the type in which sums of it are made, float32 or wider."""
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))


def row_sums(x):
    """The sum of each row, `(..., 1)`, as a product: XLA uses no vector units for the sum of a row."""
    return ops.matmul(x, ops.ones((ops.shape(x)[-1], 1), x.dtype))
