"""The steps of a pretraining run, from wherever it was left off."""

import dataclasses
import itertools
import math
import time

import keras
import numpy as np
from keras import ops

from keras_bert_app.checkpointing import SaveState, leave, stop_signals
from keras_bert_app.data.shards import LABELS, Shards
from keras_bert_app.feeding import Feed
from keras_bert_app.progress import FitProgress, describe, say, speeds

VALIDATION_EXAMPLES = 10_000  # at most
VALIDATION_SEED = 2**31  # so that validation always masks the same pieces, and others than training
DRAWS = 16  # random numbers that a step's masking may draw from the seed


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the training with examples of one length.

    Args:
        shards: `Shards`.
        batch_size: examples of a batch.
        first: number of the first batch.
        end: number of the batch after the last.
        trained: number of the positions that were trained before; 0 if there are none.
    """

    shards: Shards
    batch_size: int
    first: int
    end: int
    trained: int

    @property
    def tokens(self):
        """Pieces of a batch on average, special tokens counted and padding not."""
        return self.batch_size * self.shards.num_pieces("train") / self.shards.num_examples("train")


class PretrainingLoop:
    """Goes through the stages, validates, and keeps the state on disk.

    Args:
        model: from `pretrainer`, to be trained.
        masker: `MaskedLMMasker`.
        optimizer: Keras optimizer.
        stages: list of `Stage`.
        state: `RunState`.
        seed: int, of the order of the examples and the masks.
        validate_every: batches between two validations.
        batches_per_step: batches whose gradients the optimizer accumulates.
        checkpoint_minutes: time between two saves of the state.
        events: `TensorBoardEvents` or None.
        callbacks: more Keras callbacks, which have a `close`.
    """

    def __init__(
        self, model, masker, optimizer, stages, state, *, seed, validate_every, batches_per_step,
        checkpoint_minutes, events, callbacks,
    ):  # fmt: skip
        self.masker = masker
        self.stages = stages
        self.state = state
        self.seed = seed
        self.validate_every = validate_every
        self.batches_per_step = batches_per_step
        self.checkpoint_minutes = checkpoint_minutes
        self.events = events
        self.callbacks = callbacks
        self.trainer = compile_pretrainer(model, optimizer)
        self.evaluator = compile_pretrainer(model)
        optimizer.build(self.trainer.trainable_variables)
        self.variables = [*self.trainer.variables, *optimizer.variables]
        self.history = []
        self.spent = 0.0  # seconds on the segment in which the run was stopped, before it was

    def run(self):
        """Trains to the end of the last stage.

        Returns:
            list of dicts, one for each validation: step, losses, metrics and speed.
        """
        done, metrics = self._restore()
        with stop_signals() as stopped:
            for stage, first, end in self._segments():
                if end <= done:
                    continue
                if max(first, done) == stage.first:
                    copy_positions(self.trainer, stage.trained)
                entry = self._train(stage, max(first, done), end, metrics, stopped)
                entry |= {f"validation_{name}": value for name, value in self._validate(stage).items()}
                self._log(end, entry)
                self.history.append(entry)
                say(f"step {entry['step']}/{self.stages[-1].end // self.batches_per_step}  {describe(entry)}")
                metrics = None
                self._save(end, inside=False)
                if stopped and end < self.stages[-1].end:
                    leave(stopped)
        return self.history

    def _segments(self):
        """Yields `(stage, first batch, end)` of the parts between two validations."""
        for stage in self.stages:
            ends = range(stage.first + self.validate_every, stage.end, self.validate_every)
            for first, end in zip([stage.first, *ends], [*ends, stage.end], strict=True):
                yield stage, first, end

    def _restore(self):
        """How many batches are done, and the metrics of the segment that was cut off."""
        position = self.state.position
        if position is None:
            return 0, None
        values = self.state.values()
        for variable, value in zip(self.variables, values, strict=False):
            variable.assign(value)
        self.history, self.spent = position["history"], position["seconds"]
        say(f"going on after batch {position['step']}, from {self.state.folder}")
        return position["step"], list(values) if position["inside"] else None  # what is left

    def _save(self, step, metrics=(), inside=True):
        seconds = self.spent + time.monotonic() - self.started if inside else 0.0
        self.state.save(
            [*self.variables, *metrics], step=step, inside=inside, seconds=seconds, history=self.history
        )

    def _train(self, stage, first, end, metrics, stopped):
        """One segment; returns its line of the history."""
        title = f"length {stage.shards.sequence_length}"
        title += ", batches" if self.batches_per_step > 1 else ""
        saver = SaveState(self._save, first, metrics, self.checkpoint_minutes, end, stopped)
        amounts = {"tokens": np.broadcast_to(stage.tokens, self.stages[-1].end)}
        bar = FitProgress(title, self.stages[-1].end, first, amounts, self._log, readable)
        feed = Feed(self._batches(stage, first, end))
        self.started = time.monotonic()
        try:
            logs = feed.fit(self.trainer, specs(self.trainer), end - first, [*self.callbacks, saver, bar])
        finally:
            for callback in (bar, *self.callbacks):
                callback.close()
        seconds = time.monotonic() - self.started
        entry = {"step": end // self.batches_per_step, "length": stage.shards.sequence_length}
        entry |= readable(logs) | speeds(amounts, first, end, seconds)
        entry["seconds"], self.spent = self.spent + seconds, 0.0
        return entry

    def _batches(self, stage, first, end):
        """Yields some batches, which are a function of the seed and their number."""
        step, number = first, stage.shards.num_batches("train", stage.batch_size)
        while step < end:
            epoch, skipped = divmod(step - stage.first, number)
            batches = stage.shards.batches(
                "train", stage.batch_size, self.seed, epoch, skipped, _multiple(stage.shards)
            )
            for batch in batches:
                if step == end:
                    return
                yield masked_batch(self.masker, batch, self.seed, step)
                step += 1

    def _validate(self, stage):
        if not stage.shards.num_examples("validation"):
            return {}
        return evaluate_examples(self.evaluator, self.masker, stage.shards, stage.batch_size)

    def _log(self, step, values):
        if self.events:
            self.events.log(step, values)


def copy_positions(model, trained):
    """Makes the positions of a model that are not trained copies of those that are, over and over.

    Args:
        model: from `pretrainer`.
        trained: number of the positions that are trained; with 0, or all, nothing is changed.
    """
    table = model.get_layer("position_embeddings").embeddings
    values = ops.convert_to_numpy(table).copy()  # (positions, hidden)
    if 0 < trained < len(values):
        values[trained:] = np.resize(values[:trained], values[trained:].shape)
        table.assign(values)


def compile_pretrainer(model, optimizer=None):
    """A model of the same layers with the losses and metrics of pretraining.

    The loss is the sum of two means: of the cross entropy over the pieces to be guessed, and
    over the pairs.

    Args:
        model: from `pretrainer`.
        optimizer: Keras optimizer; None for a model that is only evaluated.

    Returns:
        compiled `keras.Model`.
    """
    trainer = keras.Model(model.input, model.output)
    outputs = [name for name in ("mlm_logits", "nsp_logits") if name in model.output]
    metrics = {name: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")] for name in outputs}
    if optimizer is None:  # over all examples, where the loss is a mean of means; costs time
        for values in metrics.values():
            values.append(keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy"))
    losses = {
        name: keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        )
        for name in outputs
    }
    jit_compile = keras.config.backend() == "jax"  # slower than without on TensorFlow and a CPU
    trainer.compile(optimizer or "sgd", losses, weighted_metrics=metrics, jit_compile=jit_compile)
    return trainer


def masked_batch(masker, batch, seed, step):
    """A batch for `fit`: inputs, targets and weights, masked as a function of seed and step."""
    masker.seed_generator.state.assign(np.array([seed % 2**32, DRAWS * step % 2**32], "uint32"))
    masked = {name: ops.convert_to_numpy(value) for name, value in masker(batch).items()}
    targets, weights = {"mlm_logits": masked.pop("masked_lm_ids")}, {}
    weights["mlm_logits"] = masked.pop("masked_lm_weights")
    if LABELS in masked:
        targets["nsp_logits"] = masked.pop(LABELS)
        weights["nsp_logits"] = np.ones(len(targets["nsp_logits"]), "float32")
    return masked, targets, weights


def _multiple(shards):
    """To what the length of a batch is rounded up: JAX compiles for every length anew."""
    return shards.sequence_length // 4 if keras.config.backend() == "jax" else 8


def evaluate_examples(evaluator, masker, shards, batch_size):
    """Losses and metrics on the validation examples, masked always in the same way.

    Of more than 10,000 examples the first are taken: they are in a random order.

    Args:
        evaluator: from `compile_pretrainer`, without an optimizer.
        masker: `MaskedLMMasker`.
        shards: `Shards`.
        batch_size: examples that go through the model together.

    Returns:
        dict with `loss`, `mlm_loss`, `mlm_perplexity`, `mlm_accuracy` and, if there are pairs,
        `nsp_loss`, `nsp_accuracy` and `nsp_majority`, the accuracy of who always says the same.
    """
    labels = []

    def batches():
        found = shards.batches("validation", batch_size, multiple=_multiple(shards))
        for step, batch in enumerate(itertools.islice(found, steps)):
            labels.extend(batch.get(LABELS, ()))
            yield masked_batch(masker, batch, VALIDATION_SEED, step)

    most = -(-VALIDATION_EXAMPLES // batch_size)
    steps = min(shards.num_batches("validation", batch_size), most)
    feed = Feed(batches())
    with feed.running():
        logs = evaluator.evaluate(feed.data(specs(evaluator)), steps=steps, return_dict=True, verbose=0)
    majority = {"nsp_majority": float(max(np.mean(labels), 1 - np.mean(labels)))} if labels else {}
    return {**readable(logs), **majority}


def specs(model):
    """What a batch of `masked_batch` for `model` looks like, see `Feed`."""
    numbers, weights = (keras.KerasTensor((None, None), dtype) for dtype in ("int32", "float32"))
    row, ones = (keras.KerasTensor((None,), dtype) for dtype in ("int32", "float32"))
    pairs = "nsp_logits" in model.output
    return (
        dict.fromkeys(model.input, numbers),
        {"mlm_logits": numbers, **({"nsp_logits": row} if pairs else {})},
        {"mlm_logits": weights, **({"nsp_logits": ones} if pairs else {})},
    )


def readable(logs):
    """Losses and metrics under the names that the field has for them, with the perplexity."""
    values = {name.replace("_logits", ""): float(value) for name, value in logs.items()}
    if "mlm_accuracy" not in values:  # Keras gives no name to an output that is the only one
        values = {name if name == "loss" else f"mlm_{name}": value for name, value in values.items()}
        values["mlm_loss"] = values["loss"]
    if "mlm_cross_entropy" in values:  # of an evaluation
        exact = {
            f"{n}_loss": values.pop(f"{n}_cross_entropy") for n in ("mlm", "nsp") if f"{n}_loss" in values
        }
        values |= {**exact, "loss": sum(exact.values())}
    return {**values, "mlm_perplexity": math.exp(min(values["mlm_loss"], 700.0))}
