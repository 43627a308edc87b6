"""What a person sees while a model trains."""

import math
import time
from importlib.util import find_spec

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

CHECK_EVERY = 10  # steps between two looks at the loss; each look waits for the device
SAY_EVERY = 60  # seconds between two lines where there is no terminal
SPEED = "_per_second"  # the end of the name of a speed
NO_METRICS = ("epoch", "step", "length", "seconds", "padding")

console = Console(stderr=True, highlight=False)


def say(text):
    """Prints a line to standard error."""
    console.print(text, markup=False, soft_wrap=True)


def describe(values):
    """Losses and metrics as words: `{"loss": 0.5}` becomes `"loss 0.5000"`; speed comes last."""
    words, speeds = [], []
    for name, value in values.items():
        if name.endswith(SPEED):
            speeds.append(f"{value:,.{int(value < 1000)}f} {name.removesuffix(SPEED)}/s")
        elif name == "padding":
            speeds.append(f"padding {value:.0%}")
        elif name not in NO_METRICS:
            words.append(f"{name.replace('_', ' ')} {value:.4f}")
    return "  ".join(words + speeds)


def describe_shortly(values):
    """A speed, loss and metrics, and then what a narrow terminal may cut off."""
    first = next(name for name in values if name.endswith(SPEED))
    rest = {n: v for n, v in values.items() if n != first and not n.endswith(("_loss", "_perplexity"))}
    return f"{describe({first: values[first]})}  {describe(rest)}"


def speeds(amounts, first, end, seconds):
    """How fast some steps were.

    Args:
        amounts: dict from a unit to how many of it each step goes through, `(steps,)`. With `"positions"`,
            which are tokens and padding, there must be `"tokens"`.
        first: number of the first step.
        end: number of the step after the last.
        seconds: time that they took.

    Returns:
        dict: `UNIT_per_second` of each unit, and `padding`, the share of it in the positions.
    """
    totals = {unit: float(np.sum(numbers[first:end])) for unit, numbers in amounts.items()}
    positions = totals.pop("positions", None)
    found = {unit + SPEED: total / seconds for unit, total in totals.items()}
    return found if positions is None else {**found, "padding": 1.0 - totals["tokens"] / positions}


def duration(seconds):
    """A time as words, such as `"2 h 05 min"`."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


class FitProgress(keras.callbacks.Callback):
    """A progress bar with loss and speed; on anything but a terminal, a line every minute.

    Stops the training with an error when the loss is no longer a number.

    Args:
        title: such as `"epoch 1/3"`.
        steps: steps of the whole epoch.
        first_step: steps that were done before.
        amounts: see `speeds`.
        log: function of a step's number and its logs, called now and then.
        read: function that makes the numbers to be shown from Keras's logs.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """

    def __init__(self, title, steps, first_step, amounts, log, read=dict):
        super().__init__()
        self.title = title
        self.steps = steps
        self.step = first_step
        self.first_step = first_step
        self.amounts = amounts
        self.log = log
        self.read = read
        self.bar = Progress()  # until the training begins

    def on_train_begin(self, logs=None):
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}", table_column=Column(ratio=1, no_wrap=True)),  # what is left
            expand=True,
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=self.steps, completed=self.step, numbers="")
        self.started = self.said = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step % CHECK_EVERY == 0 or self.step == self.steps:
            values = self.read({name: float(value) for name, value in logs.items()})
            if not math.isfinite(values["loss"]):
                self.bar.stop()
                raise FloatingPointError(
                    f"the loss is {values['loss']} at step {self.step} of {self.title}: the training "
                    "collapsed. Try a learning rate ten times lower, or float32 precision"
                )
            seconds = time.monotonic() - self.started
            numbers = {**values, **speeds(self.amounts, self.first_step, self.step, seconds)}
            self.bar.update(self.task, completed=self.step, numbers=describe_shortly(numbers))
            self.log(self.step, values)
            if not console.is_terminal and time.monotonic() - self.said >= SAY_EVERY:
                left = duration(seconds * (self.steps - self.step) / (self.step - self.first_step))
                say(f"{self.title}  {self.step}/{self.steps}  {describe(numbers)}  {left} left")
                self.said = time.monotonic()

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Takes the bar away and gives the cursor back; also when the training ended with an exception."""
        self.bar.stop()


class TensorBoardEvents:
    """Writes numbers for TensorBoard.

    Args:
        folder: where the event files go.
    """

    @staticmethod
    def check():
        """Raises ModuleNotFoundError if TensorBoard or TensorFlow, which writes for it, is not installed."""
        if not (find_spec("tensorboard") and find_spec("tensorflow")):
            raise ModuleNotFoundError(
                "TensorBoard, or TensorFlow that writes for it, is not installed: "
                "pip install 'keras_bert_app[tensorboard]', or leave it out"
            )

    def __init__(self, folder):
        import tensorflow as tf

        self.writer = tf.summary.create_file_writer(str(folder))

    def log(self, step, values):
        """Writes a dict of numbers for training step `step`."""
        import tensorflow as tf

        with self.writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self.writer.flush()


def plot_history(history, path):
    """Draws losses and metrics to the PNG file `path`.

    Args:
        history: list of dicts, one for each epoch, or each validation of a pretraining, such as
            `{"epoch": 1, "loss": 0.5, "accuracy": 0.8, "validation_accuracy": 0.7}`, or with
            `"step"` in the place of `"epoch"`.
        path: where to.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    axis = "epoch" if "epoch" in history[0] else "step"
    numbers = [k.removeprefix("validation_") for k in history[0] if not k.endswith(SPEED)]
    metrics = [k for k in dict.fromkeys(numbers) if k not in NO_METRICS]
    figure = Figure(figsize=(4.5 * len(metrics), 3.5), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for name, label in ((metric, "training"), (f"validation_{metric}", "validation")):
            points = [(row[axis], row[name]) for row in history if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=label)
        axes.set(xlabel=axis, title=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    figure.savefig(path, dpi=120, format="png")
