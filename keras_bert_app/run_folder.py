"""What a training leaves behind, beside the model."""

import resource
import shutil
import sys
from importlib import metadata

from keras_bert_app import __version__, files
from keras_bert_app.progress import plot_history


def facts(packages):
    """The versions of some packages, and the most memory that the process has used so far.

    Args:
        packages: names of distributions.

    Returns:
        dict with `peak_memory_mib` and `versions`.
    """
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on a Mac, KiB on Linux
    return {
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit,
        "versions": {"keras_bert_app": __version__, **{name: metadata.version(name) for name in packages}},
    }


def write_history(folder, history, unfinished):
    """Writes what happened in a training to its folder.

    Args:
        folder: of the result.
        history: list of dicts, see `plot_history`.
        unfinished: folder of the unfinished run, with the events for TensorBoard, if any.
    """
    files.write_json(folder / "history.json", history)
    plot_history(history, folder / "curves.png")
    if (unfinished / "tensorboard").exists():
        shutil.copytree(unfinished / "tensorboard", folder / "tensorboard")
