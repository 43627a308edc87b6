"""Where the time of training steps goes: a trace for TensorBoard, and a table."""

import re
import time
from collections import Counter

import keras

from keras_bert_app.progress import say

SKIPPED = 10  # steps before the traced ones, so that functions are made and buffers allocated
TRACED = 5  # steps; each adds half a megabyte or more to the trace
ROWS = 12  # of the table
HOST = "/host:CPU"  # what TensorFlow calls the part of a trace with the operations on the CPU
WAITING = "IteratorGetNextOp::DoCompute"  # what it calls a step's wait for its batch


class StepProfile(keras.callbacks.Callback):
    """Traces some steps of the first `fit`, and says where their time went.

    Args:
        folder: of events for TensorBoard, where the trace goes.
    """

    @staticmethod
    def check():
        """Raises ValueError if the steps cannot be traced."""
        if keras.config.backend() != "tensorflow":
            raise ValueError(
                f"profile=True needs the TensorFlow backend, not {keras.config.backend()}: leave it out, or "
                "use that backend's own profiler"
            )

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.traced = None  # range of the steps, once there are any
        self.started = None  # when the trace was, while there is one

    def on_train_begin(self, logs=None):
        if self.traced is None:
            first = min(SKIPPED, self.params["steps"] // 2)
            self.traced = range(first, min(first + TRACED, self.params["steps"]))
        else:
            self.traced = ()

    def on_train_batch_begin(self, batch, logs=None):
        if batch in self.traced and self.started is None:
            import tensorflow as tf

            tf.profiler.experimental.start(str(self.folder))
            self.started = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if self.started is not None and batch == self.traced[-1]:
            seconds = time.monotonic() - self.started
            self.close()
            newest = max(self.folder.glob("plugins/profile/*/*.xplane.pb"))  # its folder is named by the time
            say(show(read(newest), len(self.traced), seconds))
            say(f"trace of these steps: {self.folder.name}/{newest.relative_to(self.folder)} in the output")

    def close(self):
        """Ends the trace, also of a training that was broken off."""
        if self.started is not None:
            import tensorflow as tf

            self.started = None
            tf.profiler.experimental.stop()


def read(path):
    """The time that operations on the CPU took.

    Args:
        path: `.xplane.pb` of a trace of TensorFlow.

    Returns:
        dict from the kind of an operation, such as `"MatMul"`, to `(seconds, times)`, summed over the
        threads. What XLA compiled is named by the function, as in `"XLA gelu"`. `WAITING` is among them.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace.FromString(path.read_bytes())
    seconds, times = Counter(), Counter()
    for plane in space.planes:
        if plane.name == HOST:
            for line in plane.lines:
                for event in line.events:
                    kind = _kind(plane, event)
                    seconds[kind] += event.duration_ps / 1e12
                    times[kind] += 1
    return {kind: (seconds[kind], times[kind]) for kind in seconds if kind}


def _kind(plane, event):
    """What an event is counted as; None if it is no operation."""
    name = plane.event_metadata[event.metadata_id].name
    if name == WAITING:
        return name
    operation = re.fullmatch(r"[\w/.^-]+:_?(?:Mkl)?(?:Native)?([A-Z]\w*)", name)  # "layer_0/add:AddV2"
    if operation:
        return operation[1]
    for stat in event.stats:
        if plane.stat_metadata[stat.metadata_id].name == "hlo_module":
            module = stat.str_value or plane.stat_metadata[stat.ref_value].name
            function = re.search(r"inference_+(.+?)_\d+", module)  # "a_inference__gelu_123__.1"
            return f"XLA {function[1] if function else module}"
    return None


def show(found, steps, seconds):
    """The table of `read` as text.

    Args:
        found: see `read`.
        steps: number of the steps.
        seconds: that they took.

    Returns:
        str: lines.
    """
    waiting, _ = found.get(WAITING, (0.0, 0))
    operations = {kind: numbers for kind, numbers in found.items() if kind != WAITING}
    total = sum(taken for taken, _ in operations.values())
    speed = f"{steps} steps, {1000 * seconds / steps:,.1f} ms each"
    lines = [f"{speed}, {waiting / seconds:.1%} of it waiting for data"]
    lines.append(f"{'operation':<32}{'share':>7}{'ms a step':>12}{'times a step':>14}")
    ordered = sorted(operations.items(), key=lambda item: -item[1][0])
    rest = [numbers for _, numbers in ordered[ROWS:]]
    others = (f"{len(rest)} others", tuple(map(sum, zip(*rest, strict=True))))
    for kind, (taken, times) in [*ordered[:ROWS], *([others] if rest else [])]:
        numbers = f"{taken / total:>7.1%}{1000 * taken / steps:>12,.1f}{times / steps:>14,.0f}"
        lines.append(f"{kind:<32}{numbers}")
    return "\n".join(lines)
