"""The optimizer that BERT is trained with: AdamW, warm-up, linear decay, clipping."""

import keras
from keras import ops

from keras_bert_app.layers import PACKAGE


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
        A `keras.optimizers.AdamW`.

    Reference: [google-research/bert](https://github.com/google-research/bert), `optimization.py`.
    """
    optimizer = keras.optimizers.AdamW(
        WarmupLinearDecay(learning_rate, round(warmup * total_steps), total_steps, gradient_accumulation),
        weight_decay=weight_decay,
        epsilon=epsilon,
        global_clipnorm=1.0,
        gradient_accumulation_steps=gradient_accumulation if gradient_accumulation > 1 else None,
    )
    # On TensorFlow the optimizer sees its own names, which end in ":0".
    optimizer.exclude_from_weight_decay(var_names=["(bias|gamma|beta)(:0)?$"])
    return optimizer
