"""Compute a layer a second time in the backward pass, and keep only its input until then."""

import keras
from keras import ops


def recompute(layer, forward, drops, x, mask):
    """`forward(x, mask)`, of which the backward pass keeps the arguments alone.

    Args:
        layer: the layer whose variables `forward` uses.
        forward: function of two tensors.
        drops: dict from each of its dropout layers to how often `forward` calls it.
        x: float tensor.
        mask: tensor, non-zero where a token may be attended to.

    Returns:
        What `forward` gives.
    """
    # A function of tensors alone, which gives the same a second time: JAX wants that, TensorFlow
    # takes no keywords, and dropout must drop the same. So every variable is an argument, and
    # the states of the random numbers are drawn here.
    variables = layer.variables
    states = _draw_states(drops)
    values = [states.get(id(variable), variable.value) for variable in variables]

    def pure(x, mask, *values):
        with keras.StatelessScope(zip(variables, values, strict=True), initialize_variables=False):
            return forward(x, mask)

    # As a float: TensorFlow warns of whole numbers among the arguments.
    return _recomputed(pure, x, ops.cast(ops.not_equal(mask, 0), x.dtype), *values)


def _draw_states(drops):
    """The states from which dropout starts in this call, by the ids of their variables."""
    states = {}
    for drop, calls in drops.items():
        if drop.rate > 0:  # without, Keras makes no generator
            generator = drop.seed_generator
            state, *_ = [generator.next() for _ in range(calls)]
            exact = keras.config.backend() == "tensorflow"
            states[id(generator.state)] = ops.cast(state, "float64") if exact else state
    return states


def _recomputed(function, *args):
    """`function(*args)`, of which the backward pass keeps the arguments alone."""
    if keras.config.backend() != "torch":
        return keras.remat(function)(*args)
    from torch.utils.checkpoint import set_checkpoint_early_stop

    # Torch would end the second computation by an exception, and Keras keeps exceptions with their
    # frames, so with all tensors in them, until Python next looks for cycles.
    with set_checkpoint_early_stop(False):
        return keras.remat(function)(*args)
