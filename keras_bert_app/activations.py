"""The two forms of GELU, for any Keras backend."""

import math

import keras
from keras import ops

PACKAGE = "keras_bert_app"


@keras.saving.register_keras_serializable(PACKAGE)
def gelu_tanh(x):
    """GELU in its tanh approximation, which Google's BERT models were trained with."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(PACKAGE)
def gelu_erf(x):
    """GELU in its exact form, which Hugging Face calls "gelu"."""
    return _gelu_erf(x)


@ops.custom_gradient
def _gelu_erf(x):
    # Keeps nothing but `x` for the backward pass; automatic differentiation keeps four float32
    # tensors of its size, a third of the memory of a training step. In float32 also for bfloat16
    # input, which is more exact and, on a CPU, faster.
    kept = None if keras.config.backend() == "torch" else x  # Torch keeps and gives it itself

    def grad(*args, upstream=None):
        x, upstream = (kept, args[0]) if upstream is None else (args[0], upstream)
        wide = ops.cast(x, "float32")
        density = ops.exp(-0.5 * ops.square(wide)) * (2 * math.pi) ** -0.5
        return upstream * ops.cast(_normal_share(wide) + wide * density, upstream.dtype)

    wide = ops.cast(x, "float32")
    return ops.cast(wide * _normal_share(wide), x.dtype), grad


def _normal_share(x):
    """The share of the normal distribution below `x`."""
    return 0.5 * (1.0 + ops.erf(x * 0.5**0.5))
