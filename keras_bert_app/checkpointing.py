"""The state of a training run on disk, from which it goes on as if it had not been stopped."""

import hashlib
import json
import time
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_bert_app import files


class RunState:
    """What an unfinished run keeps in its folder: its arguments, its last state, its best weights.

    Args:
        folder: made if it does not exist.
        arguments: dict of all that decides the result; a run goes on only with equal ones.

    Raises:
        ValueError: the folder holds a run with other arguments; the message names them.
    """

    def __init__(self, folder, arguments):
        self.folder = Path(folder)
        path = self.folder / "arguments.json"
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            now = json.loads(json.dumps(arguments))
            other = [f"{k}={before.get(k)!r}" for k in {**before, **now} if before.get(k) != now.get(k)]
            if other:
                raise ValueError(
                    f"{self.folder} holds an unfinished run that was started with {', '.join(other)}. "
                    "Give the same arguments to go on with it, or remove it to start anew"
                )
        else:
            with files.whole(path) as temporary:
                files.write_json(temporary, arguments)

    def save(self, variables, **position):
        """Saves the values of a list of variables, and where the run is."""
        _write(self.folder / "state.npz", variables, position)

    def load(self):
        """The position and the list of values that `save` wrote last, or `(None, None)`."""
        path = self.folder / "state.npz"
        if not path.exists():
            return None, None
        with np.load(path) as saved:
            names = sorted(name for name in saved.files if name != "position.json")
            return json.loads(saved["position.json"]), [saved[name] for name in names]

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
    """

    def __init__(self, save, first_step, metrics, minutes):
        super().__init__()
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
        if time.monotonic() - self.saved >= self.seconds:
            self.save(self.step, self.model.metrics_variables)  # on JAX, reading `model` syncs it
            self.saved = time.monotonic()


def fingerprint(examples, variables):
    """A hash of the training data and the weights that a run starts from."""
    digest = hashlib.sha256(json.dumps(examples, ensure_ascii=False).encode("utf-8", "replace"))
    for variable in variables:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value)).tobytes())
    return digest.hexdigest()
