"""The epochs of a training run, from wherever it was left off."""

import contextlib
import time

import keras
import numpy as np

from keras_bert_app.checkpointing import SaveState, leave, stop_signals
from keras_bert_app.encoder import encoder_layers
from keras_bert_app.feeding import Feed
from keras_bert_app.fusing import nothing_fused
from keras_bert_app.lean import lean_models
from keras_bert_app.progress import FitProgress, describe, say, speeds
from keras_bert_app.tokens import ROW_NUMBERS

# Numbers in the tokens' vectors of all layers, from which on XLA has saved the time that it took to compile
# for a shape: some 0.3 s, for 35 us a token of six layers of 384 on two cores of an AMD EPYC.
NUMBERS_OF_A_SHAPE = 2e7


class TrainingLoop:
    """Goes through the data epoch by epoch, validates, and keeps the state on disk.

    Args:
        result: `TaskModel`, whose model is trained.
        trainer: compiled `keras.Model` of the same layers.
        state: `RunState`.
        arguments: dict with `epochs`, `batch_size` and `patience`, see `finetune`.
        checkpoint_minutes: time between two saves of the state within an epoch.
        events: `TensorBoardEvents` or None.
        callbacks: more Keras callbacks, which have a `close`.
    """

    def __init__(self, result, trainer, state, arguments, checkpoint_minutes, events, callbacks):
        self.result = result
        self.trainer = trainer
        self.state = state
        self.arguments = arguments
        self.checkpoint_minutes = checkpoint_minutes
        self.events = events
        self.callbacks = callbacks
        self.metric = result.task.metric
        trainer.optimizer.build(trainer.trainable_variables)
        self.variables = [*trainer.variables, *trainer.optimizer.variables]
        self.history = []

    def run(self, features, targets, batches, held_out):
        """Trains, and leaves the model with the weights of the best epoch, or of the last.

        Args:
            features: `Features` of the training examples.
            targets: what the outputs shall be, and weights or None, see `tasks`.
            batches: for each epoch, a list of `(batch,)`: which items a step takes.
            held_out: `Features` and examples of the validation, or None.

        Returns:
            list of dicts, one for each epoch: loss, metric, speed.
        """
        start = self._restore()
        layers = encoder_layers(self.result.model)
        blocks = sum(name.startswith("layer_") for name in layers)
        width = blocks * layers["word_embeddings"].output_dim
        fusing = _fusing(features.amounts(batches[0]), len(batches), width)
        # No loss depends on what the encoder returns for padding, see `tasks`.
        with stop_signals() as self.stopped, fusing, lean_models():
            self._run_epochs(features, targets, batches, held_out, *start)
        if held_out is not None:
            self.state.restore_best(self.result.model.variables)
        return self.history

    def _run_epochs(self, features, targets, batches, held_out, first_epoch, first_step, metrics):
        patience = self.arguments["patience"]
        for epoch in range(first_epoch, len(batches)):
            if patience and self.history and len(self.history) - self._best_epoch() >= patience:
                say(f"stopped: {patience} epochs without a better validation {self.metric}")
                break
            steps_before = sum(map(len, batches[:epoch]))
            entry = self._train(epoch, steps_before, first_step, metrics, features, targets, batches[epoch])
            if held_out is not None:
                report = self.result.validate(*held_out, self.arguments["batch_size"])
                scores = {f"validation_{name}": report[name] for name in ("loss", self.metric)}
                entry |= scores
                self._log(steps_before + len(batches[epoch]), scores)
            self.history.append(entry)
            say(f"{self._title(epoch)}  {describe(entry)}")
            if held_out is not None and self._best_epoch() == len(self.history):
                self.state.save_best(self.result.model.variables)
            first_step, metrics = 0, None
            self.state.save(self.variables, epoch=epoch + 1, step=0, history=self.history)
            if self.stopped and epoch + 1 < len(batches):
                leave(self.stopped)

    def _restore(self):
        """Where the run is: epoch, step in it, and the metrics of those steps."""
        position = self.state.position
        if position is None:
            return 0, 0, None
        values = self.state.values()
        for variable, value in zip(self.variables, values, strict=False):
            variable.assign(value)
        self.history = position["history"]
        say(f"going on after epoch {position['epoch']}, step {position['step']}, from {self.state.folder}")
        metrics = list(values) if position["step"] else None  # what is left
        return position["epoch"], position["step"], metrics

    def _train(self, epoch, steps_before, first_step, metrics, features, targets, batches):
        """The rest of one epoch; returns its line of the history."""

        def save(step, metrics_variables):
            variables = [*self.variables, *metrics_variables]
            self.state.save(variables, epoch=epoch, step=step, history=self.history)

        def log(step, values):
            self._log(steps_before + step, values)

        saver = SaveState(save, first_step, metrics, self.checkpoint_minutes, len(batches), self.stopped)
        amounts = features.amounts(batches)
        bar = FitProgress(self._title(epoch), len(batches), first_step, amounts, log)
        left = batches[first_step:]
        feed = Feed(features.batch(items, targets) for items in left)
        specs = keras.tree.map_structure(
            lambda array: keras.KerasTensor((None,) * array.ndim, array.dtype),
            features.batch(left[0], targets),
        )
        start = time.monotonic()
        try:
            logs = feed.fit(self.trainer, specs, len(left), [*self.callbacks, saver, bar], epoch)
        finally:
            for callback in (bar, *self.callbacks):
                callback.close()
        seconds = time.monotonic() - start
        entry = {"epoch": epoch + 1, **logs, **speeds(amounts, first_step, len(batches), seconds)}
        entry["seconds"] = seconds
        return entry

    def _best_epoch(self):
        """The number of the first epoch, from 1, with the best validation metric."""
        return 1 + int(np.argmax([row[f"validation_{self.metric}"] for row in self.history]))

    def _title(self, epoch):
        return f"epoch {epoch + 1}/{self.arguments['epochs']}"

    def _log(self, step, values):
        if self.events:
            self.events.log(step, values)


def _fusing(amounts, epochs, width):
    """The context of a run: in a short one, what would be compiled for each shape does not pay.

    Args:
        amounts: what `Features.amounts` gives for the first epoch.
        epochs: of the run.
        width: numbers in the vectors of a token, of all layers.
    """
    batches = set(zip(amounts["examples"], amounts["positions"], strict=True))  # for attention
    rows = ROW_NUMBERS[np.searchsorted(ROW_NUMBERS, amounts["tokens"])]
    rows = set(np.minimum(rows, amounts["positions"]))  # for all else
    pays = epochs * float(amounts["tokens"].sum()) * width >= NUMBERS_OF_A_SHAPE * (len(batches) + len(rows))
    return contextlib.nullcontext() if pays else nothing_fused()
