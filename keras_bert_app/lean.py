"""Models traced with fewer operations, for the same answers and the same training."""

import contextlib
import threading

import keras

_state = threading.local()


@contextlib.contextmanager
def lean_models():
    """Within it, or in a function that it decorates, TensorFlow traces models with less to compute.

    Transformer blocks leave out padding, but for the first position of a row, in training only on a CPU. For
    what is left out they return the vector of some other token in inference, and in training, where some
    padding stays to fill one of `tokens.ROW_NUMBERS`, 0 without a gradient. So no answer and no loss may
    depend on it. And in inference layer normalization is written as TensorFlow fuses it into one operation.

    It holds for its thread: not for the replicas of a `tf.distribute` strategy, which compute the same with
    padding.
    """
    before = is_lean()
    _state.is_lean = True
    try:
        yield
    finally:
        _state.is_lean = before


def is_lean():
    """True within `lean_models`, with TensorFlow, but within `portable_models`."""
    is_meant = getattr(_state, "is_lean", False) and not is_portable()
    return is_meant and keras.config.backend() == "tensorflow"


@contextlib.contextmanager
def portable_models():
    """Within it models are traced for other runtimes: without what only TensorFlow fuses.

    Tokens stay in their batch, and layer normalization is written as in its paper, which is what ONNX Runtime
    and OpenVINO look for.
    """
    before = is_portable()
    _state.is_portable = True
    try:
        yield
    finally:
        _state.is_portable = before


def is_portable():
    """True within `portable_models`."""
    return getattr(_state, "is_portable", False)
