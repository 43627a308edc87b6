"""The optimizer that BERT is trained with: AdamW, warm-up, linear decay, clipping."""

import math

import keras
from keras import ops

from keras_bert_app.activations import PACKAGE
from keras_bert_app.fusing import is_wide


@keras.saving.register_keras_serializable(PACKAGE)
class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises from 0 for some steps and then falls to 0, both in a line.

    Args:
        peak: the highest learning rate.
        warmup_steps: steps of the rise.
        total_steps: steps until 0 is reached.
        batches_per_step: batches whose gradients are accumulated for a step; Keras counts batches.

    Example:

    >>> schedule = WarmupLinearDecay(peak=1.0, warmup_steps=2, total_steps=6)
    >>> [float(schedule(step)) for step in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 1.0, 0.5, 0.0]

    Reference: [google-research/bert](https://github.com/google-research/bert), `optimization.py`.
    """

    def __init__(self, peak, warmup_steps, total_steps, batches_per_step=1):
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.batches_per_step = batches_per_step

    def __call__(self, step):
        step = ops.cast(step // self.batches_per_step, "float32")
        rise = step / self.warmup_steps if self.warmup_steps else 1.0
        fall = (self.total_steps - step) / max(self.total_steps - self.warmup_steps, 1)
        return self.peak * ops.clip(ops.minimum(rise, fall), 0.0, 1.0)

    def get_config(self):
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "batches_per_step": self.batches_per_step,
        }


@keras.saving.register_keras_serializable(PACKAGE)
class FusedAdamW(keras.optimizers.AdamW):
    """AdamW that goes through each large variable once in a step, in graphs of TensorFlow on a CPU.

    Its arguments are those of `keras.optimizers.AdamW`, but for `amsgrad`.

    Raises:
        ValueError: `amsgrad` is set.

    Reference: [Loshchilov & Hutter, 2019](https://arxiv.org/abs/1711.05101)
    """

    def build(self, variables):
        if self.amsgrad:
            raise ValueError("amsgrad=True: take keras.optimizers.AdamW, this one has none")
        super().build(variables)

    def _apply_weight_decay(self, variables):
        if not _is_one_replica():  # or else `update_step` does it
            super()._apply_weight_decay(variables)

    def _clip_gradients(self, gradients):
        """Pairs of a gradient and the numbers of the step, for `update_step`, or clipped gradients."""
        if not _is_one_replica() or self.clipnorm or not self.global_clipnorm:
            return super()._clip_gradients(gradients)
        import tensorflow as tf

        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]  # of embeddings it is sparse
        norm = tf.linalg.global_norm([tf.cast(gradient, tf.float32) for gradient in gradients])
        factor = self.global_clipnorm / tf.maximum(norm, self.global_clipnorm)
        factor += norm - norm  # NaN if a gradient is not finite, as in Keras
        numbers = self._numbers(factor)
        return [(gradient, numbers) for gradient in gradients]

    def _numbers(self, factor):
        """What `_adamw` takes for all variables in a step, but that some have no decay; also makes
        `_update_of`, from whether a variable is large to `_adamw`, whose graph is made once for each shape.

        It is of this step alone: TensorFlow does not call a function for whose arguments it knows a variable
        that is gone, as are those of a model before.
        """
        import tensorflow as tf

        step = tf.cast(self.iterations + 1, tf.float32)
        corrections = 1.0 - self.beta_1**step, 1.0 - self.beta_2**step
        rate = self.learning_rate * tf.sqrt(corrections[1]) / corrections[0]
        decay = self.learning_rate * (self.weight_decay or 0.0)
        numbers = decay, factor, rate, self.beta_1, self.beta_2, self.epsilon
        updates = {False: _adamw}
        if not tf.executing_eagerly():
            updates = {wide: tf.function(_adamw, jit_compile=wide, autograph=False) for wide in (False, True)}
        self._update_of = updates.__getitem__
        return [tf.cast(number, tf.float32) for number in numbers]

    def update_step(self, gradient, variable, learning_rate):
        if not _is_one_replica():
            return super().update_step(gradient, variable, learning_rate)
        import tensorflow as tf

        gradient, numbers = gradient if isinstance(gradient, tuple) else (gradient, self._numbers(1.0))
        decay, *others = numbers
        place = self._get_variable_index(variable)
        moments = self._momentums[place].value, self._velocities[place].value
        decay = decay if self._use_weight_decay(variable) else tf.zeros_like(decay)
        # It does not depend on the shape of a batch, hence is compiled in short runs too.
        update = self._update_of(is_wide(math.isqrt(math.prod(variable.shape))))
        update(tf.convert_to_tensor(gradient), variable, *moments, decay, *others)


def _adamw(gradient, variable, momentum, velocity, decay, factor, rate, beta_1, beta_2, epsilon):
    """Updates a `tf.Variable` and its moments. The assignments are part of the function: outside they would
    wait until it has run for all variables, and the new values of all would be in memory beside the old."""
    import tensorflow as tf

    wide = keras.backend.result_type(variable.dtype.name, "float32")
    gradient, value, old_momentum, old_velocity = (
        tf.cast(tf.convert_to_tensor(x), wide) for x in (gradient, variable, momentum, velocity)
    )
    numbers = decay, factor, rate, beta_1, beta_2, epsilon
    decay, factor, rate, beta_1, beta_2, epsilon = (tf.cast(number, wide) for number in numbers)
    gradient = gradient * factor
    new_momentum = old_momentum + (gradient - old_momentum) * (1.0 - beta_1)
    new_velocity = old_velocity + (tf.square(gradient) - old_velocity) * (1.0 - beta_2)
    value -= value * decay
    value -= new_momentum * rate / (tf.sqrt(new_velocity) + epsilon)
    for target, new in ((variable, value), (momentum, new_momentum), (velocity, new_velocity)):
        target.assign(tf.cast(new, target.dtype))


def _is_one_replica():
    """True with TensorFlow and no others; several clip before they add up, and each has its own moments."""
    if not _is_on_tensorflow():
        return False
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync == 1


def _is_on_tensorflow():
    return keras.config.backend() == "tensorflow"


def adamw(learning_rate, total_steps, warmup=0.1, weight_decay=0.01, gradient_accumulation=1, epsilon=1e-6):
    """AdamW as BERT is trained with it.

    No weight decay on biases and layer normalization; gradients clipped to a global norm of 1.

    Args:
        learning_rate: the highest learning rate.
        total_steps: number of training steps; with accumulation, of updates.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: decoupled weight decay.
        gradient_accumulation: batches whose gradients are averaged for one update.
        epsilon: added to the root of the second moment; the default is that of google-research/bert.

    Returns:
        A `keras.optimizers.AdamW`, with TensorFlow a faster one.

    Reference: [google-research/bert](https://github.com/google-research/bert), `optimization.py`.
    """
    kind = FusedAdamW if _is_on_tensorflow() else keras.optimizers.AdamW
    optimizer = kind(
        WarmupLinearDecay(learning_rate, round(warmup * total_steps), total_steps, gradient_accumulation),
        weight_decay=weight_decay,
        epsilon=epsilon,
        global_clipnorm=1.0,
        gradient_accumulation_steps=gradient_accumulation if gradient_accumulation > 1 else None,
    )
    # On TensorFlow the optimizer sees its own names, which end in ":0".
    optimizer.exclude_from_weight_decay(var_names=["(bias|gamma|beta)(:0)?$"])
    return optimizer
