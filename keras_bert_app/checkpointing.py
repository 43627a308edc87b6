"""The state of a training run on disk, from which it goes on as if it had not been stopped."""

import contextlib
import gc
import hashlib
import json
import signal
import threading
import time
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_bert_app import files
from keras_bert_app.feeding import LAST
from keras_bert_app.progress import say

DATA = "other data or other starting weights"


class RunState:
    """What an unfinished run keeps in its folder: its last state and its best weights.

    Args:
        folder: made if it does not exist.
        arguments: dict of all that decides the result. It is part of the state: a run goes on
            only from the state of an equal one.

    Raises:
        ValueError: the folder holds the state of a run with other arguments, or a damaged one.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder, arguments):
        self.folder = Path(folder)
        self.arguments = json.loads(json.dumps(arguments))  # as they are read back
        with files.writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.position = self._read_position()

    def _read_position(self):
        """Where the run is, or None if there is no state yet."""
        path = self.folder / "state.npz"
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as saved:
                position = json.loads(saved.read("position.json"))
        except Exception as error:  # what a damaged archive raises depends on which byte is wrong
            raise ValueError(f"{path} is damaged ({error}): remove {self.folder} to start anew") from error
        before = position.pop("arguments")
        other = [k for k in {**before, **self.arguments} if before.get(k) != self.arguments.get(k)]
        if other:
            names = ", ".join(DATA if k == "data" else f"{k}={before.get(k)!r}" for k in other)
            raise ValueError(
                f"{self.folder} holds an unfinished run that was started with {names}. "
                "Give the same arguments to go on with it, or remove it to start anew"
            )
        return position

    def save(self, variables, **position):
        """Saves the values of a list of variables, and where the run is."""
        _write(self.folder / "state.npz", variables, {**position, "arguments": self.arguments})

    def values(self):
        """The values that `save` wrote last, in the order of the variables."""
        with np.load(self.folder / "state.npz") as saved:
            for name in sorted(name for name in saved.files if name != "position.json"):
                yield saved[name]

    def save_best(self, variables):
        """Saves the values of a list of variables as the best so far."""
        _write(self.folder / "best.npz", variables, {})

    def restore_best(self, variables):
        """Assigns what `save_best` saved last, if anything."""
        path = self.folder / "best.npz"
        if path.exists():
            with np.load(path) as saved:
                for index, variable in enumerate(variables):
                    variable.assign(saved[f"{index:05d}"])


def _write(path, variables, position):
    """Writes an `.npz` file one array at a time: `np.savez` wants copies of all at once."""
    with files.whole(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr("position.json", json.dumps(position))
        for index, variable in enumerate(variables):
            with archive.open(f"{index:05d}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, keras.ops.convert_to_numpy(variable.value))


class SaveState(keras.callbacks.Callback):
    """Saves the state of `fit` every few minutes, and goes on with the metrics of a cut-off epoch.

    Args:
        save: function of the number of steps done in this epoch and the metric variables.
        first_step: steps of this epoch that were done before.
        metrics: values of the model's metric variables at that step, or None; they are added
            to those of the first step.
        minutes: time between two saves.
        end: number of steps after which there is no save: who calls `fit` saves then.
        stopped: from `stop_signals`, or None.
    """

    def __init__(self, save, first_step, metrics, minutes, end, stopped=None):
        super().__init__()
        self.end = end
        self.stopped = stopped
        self.save = save
        self.step = first_step
        self.metrics = metrics
        self.seconds = 60 * minutes
        self.saved = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.metrics:  # sums and counts; Keras makes the variables in the first step
            for variable, value in zip(self.model.metrics_variables, self.metrics, strict=True):
                variable.assign(variable + value)
            self.metrics = None
        if self.step == self.end:
            return
        if time.monotonic() - self.saved >= self.seconds or self.stopped:
            self.save(self.step, self.model.metrics_variables)  # on JAX, reading `model` syncs it
            self.saved = time.monotonic()
        if self.stopped:
            leave(self.stopped)


def leave(stopped):
    """Ends the process, if nobody minds, after its state was saved.

    Args:
        stopped: from `stop_signals`.

    Raises:
        SystemExit: always.
    """
    say("stopped: the same call or command goes on from here")
    time.sleep(LAST)
    gc.collect()  # datasets of before, which at the end of the process could not be freed
    raise SystemExit(128 + stopped[0])  # as a shell says that a signal ended a process


@contextlib.contextmanager
def stop_signals():
    """Gives a list to which SIGTERM and SIGINT are appended, instead of ending the process.

    Only the main thread can do so: in another the list stays empty and nothing changes.
    """
    stopped = []
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    signals = signal.SIGTERM, signal.SIGINT
    before = [signal.signal(number, lambda number, frame: stopped.append(number)) for number in signals]
    try:
        yield stopped
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def fingerprint(examples, variables):
    """A hash of the training data and the weights that a run starts from."""
    digest = hashlib.sha256(json.dumps(examples, ensure_ascii=False).encode("utf-8", "replace"))
    for variable in variables:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value)).tobytes())
    return digest.hexdigest()
