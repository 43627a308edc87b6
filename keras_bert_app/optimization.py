"""The optimizer that BERT is trained with: AdamW, warm-up, linear decay, clipping."""

import math

import keras
from keras import ops

from keras_bert_app import fusing
from keras_bert_app.activations import PACKAGE


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
    """AdamW that with TensorFlow updates all small variables together, of which a BERT has many.

    In graphs on a CPU it goes through each large one once in a step.

    Its arguments are those of `keras.optimizers.AdamW`, but for `amsgrad`.

    Raises:
        ValueError: `amsgrad` is set.

    Reference: [Loshchilov & Hutter, 2019](https://arxiv.org/abs/1711.05101)
    """

    def build(self, variables):
        if self.amsgrad:
            raise ValueError("amsgrad=True: take keras.optimizers.AdamW, this one has none")
        super().build(variables)

    # What follows takes over from Keras where there is one replica.

    def _apply_weight_decay(self, variables):
        if not _is_one_replica():
            super()._apply_weight_decay(variables)

    def _clip_gradients(self, gradients):
        clips_later = self.global_clipnorm and _is_one_replica()
        return gradients if clips_later else super()._clip_gradients(gradients)

    def _backend_update_step(self, gradients, variables, learning_rate):
        if not _is_one_replica():
            super()._backend_update_step(gradients, variables, learning_rate)
            return
        import tensorflow as tf

        # As Keras hands them on: exclusions from the decay go by the names of TensorFlow.
        variables = [v.value if isinstance(v, keras.Variable) else v for v in variables]
        groups = {}
        for gradient, variable in zip(gradients, variables, strict=True):
            groups.setdefault(self._group_of(variable), []).append((gradient, variable))
        joined = []  # the gradients of each group
        for (_, _, dtype), pairs in groups.items():
            dense = [tf.convert_to_tensor(gradient) for gradient, _ in pairs]  # of embeddings it is sparse
            joined.append(_joined([tf.cast(gradient, _wide(dtype)) for gradient in dense]))
        numbers = self._numbers(learning_rate, joined)
        updates = {False: _adamw, True: _adamw}
        if not tf.executing_eagerly():
            # Of this step alone: TensorFlow does not call a function for whose arguments it knows a variable
            # that is gone, as are those of a model before. What XLA compiles does not depend on the shape of
            # a batch, hence pays in short runs too.
            updates = {
                is_large: tf.function(_adamw, jit_compile=is_large and fusing.on_cpu(), autograph=False)
                for is_large in updates
            }
        for ((place, decays, _), pairs), gradient in zip(groups.items(), joined, strict=True):
            places = [self._get_variable_index(variable) for _, variable in pairs]
            moments = ([kind[at].value for at in places] for kind in (self._momentums, self._velocities))
            values = [variable for _, variable in pairs]
            decay = tf.cast(learning_rate, tf.float32) * (self.weight_decay or 0.0) * float(decays)
            updates[place is not None](gradient, values, *moments, decay, *numbers)

    def _group_of(self, variable):
        """Variables of one group are updated together: its place if it is a large one, whether it decays, and
        its type."""
        is_large = math.isqrt(math.prod(variable.shape)) >= fusing.MANY
        place = self._get_variable_index(variable) if is_large else None
        return place, self._use_weight_decay(variable), variable.dtype.name

    def _numbers(self, learning_rate, gradients):
        """What `_adamw` takes for all variables in a step."""
        import tensorflow as tf

        step = tf.cast(self.iterations + 1, tf.float32)
        factor = tf.constant(1.0)
        if self.global_clipnorm:
            norm = tf.linalg.global_norm([tf.cast(gradient, tf.float32) for gradient in gradients])
            factor = self.global_clipnorm / tf.maximum(norm, self.global_clipnorm)
            factor += norm - norm  # NaN if a gradient is not finite, as in Keras
        corrections = 1.0 - self.beta_1**step, 1.0 - self.beta_2**step
        rate = tf.cast(learning_rate, tf.float32) * tf.sqrt(corrections[1]) / corrections[0]
        numbers = factor, rate, self.beta_1, self.beta_2, self.epsilon
        return [tf.cast(number, tf.float32) for number in numbers]


def _adamw(gradient, variables, momentums, velocities, decay, factor, rate, beta_1, beta_2, epsilon):
    """Updates lists of `tf.Variable` and of their moments from their joined gradients.

    The assignments are part of the function: outside they would wait until it has run for all variables, and
    the new values of all would be in memory beside the old.
    """
    import tensorflow as tf

    wide = _wide(variables[0].dtype.name)
    targets = variables, momentums, velocities
    value, momentum, velocity = (tf.cast(_joined(list(map(tf.convert_to_tensor, x))), wide) for x in targets)
    numbers = gradient, decay, factor, rate, beta_1, beta_2, epsilon
    gradient, decay, factor, rate, beta_1, beta_2, epsilon = (tf.cast(number, wide) for number in numbers)
    gradient = gradient * factor
    momentum += (gradient - momentum) * (1.0 - beta_1)
    velocity += (tf.square(gradient) - velocity) * (1.0 - beta_2)
    value -= value * decay
    value -= momentum * rate / (tf.sqrt(velocity) + epsilon)
    for kind, new in zip(targets, (value, momentum, velocity), strict=True):
        for target, part in zip(kind, _parted(new, [variable.shape for variable in variables]), strict=True):
            target.assign(tf.cast(part, target.dtype))


def _wide(dtype):
    """The type in which a variable is updated."""
    return keras.backend.result_type(dtype, "float32")


def _joined(tensors):
    """Tensors in a row, or the only one as it is: of a flat one XLA makes twice the work."""
    import tensorflow as tf

    return tensors[0] if len(tensors) == 1 else tf.concat([tf.reshape(x, (-1,)) for x in tensors], 0)


def _parted(x, shapes):
    """What `_joined` has joined."""
    import tensorflow as tf

    if len(shapes) == 1:
        return [x]
    parts = tf.split(x, [math.prod(shape) for shape in shapes])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


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
