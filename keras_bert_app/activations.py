"""The two forms of GELU, for any Keras backend."""

import math

import keras
from keras import ops

from keras_bert_app.fusing import fused, fuses, on_cpu
from keras_bert_app.lean import is_lean

PACKAGE = "keras_bert_app"


@keras.saving.register_keras_serializable(PACKAGE)
def gelu_tanh(x):
    """GELU in its tanh approximation, which Google's BERT models were trained with."""
    return ops.cast(keras.activations.gelu(ops.cast(x, "float32"), approximate=True), x.dtype)


@keras.saving.register_keras_serializable(PACKAGE)
def gelu_erf(x):
    """GELU in its exact form, which Hugging Face calls "gelu"."""
    wide = ops.cast(x, "float32")
    # In this order: it is how TensorFlow and LiteRT know GELU; and LiteRT has no erf, ONNX no erfc.
    return ops.cast(0.5 * wide * (1.0 + ops.erf(wide * 0.5**0.5)), x.dtype)


def in_training(activation):
    """What gives the same as an activation, and has a cheaper gradient; itself if there is none."""
    return IN_TRAINING.get(activation, activation)


def in_inference(activation):
    """What gives the same as an activation; in `lean_models` on a CPU in a form that TensorFlow with oneDNN
    makes a part of the product before it, on whose float32 sums it then works, even if `x` is bfloat16."""
    return IN_INFERENCE.get(activation, activation) if is_lean() and on_cpu() else activation


def _part_gelu_tanh(x):
    # The constant beside the square: elsewhere TensorFlow moves it, and then does not know the form.
    return 0.5 * x * (1.0 + ops.tanh((2 / math.pi) ** 0.5 * (x + x * (0.044715 * ops.square(x)))))


def _part_gelu_erf(x):
    return 0.5 * x * (1.0 + ops.erf(x * 0.5**0.5))


def _with_slope(function):
    """The activation from a function of `x` in float32 that gives its value and its slope.

    It keeps nothing but the slope for the backward pass, which is one product then. Automatic
    differentiation keeps four float32 tensors of the size of `x`, a third of the memory of a training step.
    In float32 also for bfloat16 input, which is more exact and, on a CPU, faster.
    """

    def gelu_and_slope(x):
        value, slope = function(ops.cast(x, "float32"))
        return ops.cast(value, x.dtype), ops.cast(slope, x.dtype)

    @ops.custom_gradient
    def activation(x):
        value, slope = (fused(gelu_and_slope) if fuses(x.shape[-1]) else gelu_and_slope)(x)

        def grad(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return upstream * ops.cast(slope, upstream.dtype)

        return value, grad

    return activation


@_with_slope
def _gelu_tanh(x):
    # (1 + tanh(y)) / 2 is sigmoid(2 y): fewer operations.
    outer, inner = 2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715
    cubic = ops.square(x) * inner
    share = ops.sigmoid(x * (cubic + outer))
    value = x * share
    return value, share + value * (1.0 - share) * (3.0 * cubic + outer)


@_with_slope
def _gelu_erf(x):
    above = 1.0 + ops.erf(x * 0.5**0.5)  # twice the share of the normal distribution below x
    density = ops.exp(-0.5 * ops.square(x)) * (2 * math.pi) ** -0.5
    return 0.5 * x * above, 0.5 * above + x * density


IN_INFERENCE = {gelu_tanh: _part_gelu_tanh, gelu_erf: _part_gelu_erf}
IN_TRAINING = {gelu_tanh: _gelu_tanh, gelu_erf: _gelu_erf}
