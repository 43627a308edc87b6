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
        share = 0.5 * (1.0 + ops.erf(wide * 0.5**0.5))  # of the normal distribution below x
        return upstream * ops.cast(share + wide * density, upstream.dtype)

    wide = ops.cast(x, "float32")
    # In this order: it is how LiteRT's converter knows GELU, and otherwise it has no erf.
    return ops.cast(0.5 * wide * (1.0 + ops.erf(wide * 0.5**0.5)), x.dtype), grad
