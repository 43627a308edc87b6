"""One version of a SavedModel, loaded as TensorFlow Serving loads it."""

import dataclasses
import gc
import logging
import threading
from pathlib import Path

import numpy as np

from keras_bert_app import warm_up
from keras_bert_app.serving.errors import ServingError, of_tensorflow

log = logging.getLogger(__name__)

DEFAULT_SIGNATURE = "serving_default"
MOST_WARM_UPS = 1000
INITIALIZER = "__saved_model_init_op"


@dataclasses.dataclass
class Signature:
    """What a signature takes and returns.

    Args:
        inputs, outputs: dict from names to types of NumPy.
        run: function of arrays in the order of `inputs`; returns arrays in the order of `outputs`.
        joins: True if the rows of several requests can go through it together: each row has its
            answer, and the shape of an answer does not depend on the other rows.
    """

    inputs: dict
    outputs: dict
    run: object
    joins: bool
    gate: "Gate"

    def __call__(self, arrays):
        """The outputs, a dict of arrays, for a dict of arrays."""
        import tensorflow as tf

        try:
            with self.gate:
                found = self.run(*(arrays[name] for name in self.inputs))
        except tf.errors.OpError as error:
            raise of_tensorflow(error) from None
        except ServingError:
            raise
        except Exception as error:  # whoever waits for an answer must get one
            log.exception("a run failed")
            raise ServingError(f"{type(error).__name__}: {error}", "INTERNAL") from error
        # NumPy has strings as bytes objects; one alone is not even an array.
        return {
            name: np.asarray(value, object if isinstance(value, bytes) else None)
            for name, value in zip(self.outputs, found, strict=True)
        }


class Gate:
    """Lets runs through until it is shut; shutting waits for those that are inside."""

    def __init__(self):
        self.condition = threading.Condition()
        self.inside = 0
        self.is_shut = False

    def __enter__(self):
        with self.condition:
            if self.is_shut:
                raise ServingError("this version of the model was let go: try again", "UNAVAILABLE")
            self.inside += 1

    def __exit__(self, *_):
        with self.condition:
            self.inside -= 1
            self.condition.notify_all()

    def shut(self):
        with self.condition:
            self.is_shut = True
            self.condition.wait_for(lambda: not self.inside)


class Servable:
    """A SavedModel in a session of its own.

    Args:
        folder: of the SavedModel.
        timeout: seconds after which a run is given up.
        warms_up: True to run the requests in `assets.extra/tf_serving_warmup_requests` first.
        session_config: `tf.compat.v1.ConfigProto` of the session.

    Raises:
        ServingError: it cannot be loaded.
    """

    def __init__(self, folder, timeout=30.0, warms_up=True, session_config=None):
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers its operations

        self.folder = Path(folder)
        self.session = None
        self.gate = Gate()
        try:
            with tf.Graph().as_default() as graph:
                self.session = tf.compat.v1.Session(graph=graph, config=session_config)
                loaded = tf.compat.v1.saved_model.load(self.session, ["serve"], str(folder))
            self.signature_defs = loaded.signature_def
            self.signatures = {
                name: _signature(self.session, definition, timeout, self.gate)
                for name, definition in loaded.signature_def.items()
                if name != INITIALIZER
            }
            if warms_up:
                self._warm_up()
        except tf.errors.OpError as error:
            self.close()
            raise of_tensorflow(error) from None
        except ServingError:
            self.close()
            raise
        except Exception as error:  # what a damaged file raises depends on which byte is wrong
            self.close()
            message = " ".join(str(error).split())
            raise ServingError(f"{folder} cannot be loaded: {message}", "UNKNOWN") from error

    def signature(self, name):
        """The signature of a name; an empty one means the default."""
        name = name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise ServingError(f'Serving signature name: "{name}" not found in signature def')
        return self.signatures[name]

    def _warm_up(self):
        """Runs the recorded requests, so that the first of a client is not slow."""
        path = self.folder / warm_up.FILE
        if not path.exists():
            return
        for number, (signature, arrays) in enumerate(warm_up.read_requests(path)):
            if number == MOST_WARM_UPS:
                raise ServingError(f"{path} has more than {MOST_WARM_UPS} requests", "INVALID_ARGUMENT")
            self.signature(signature)(arrays)

    def close(self):
        """Frees the memory; nothing can be run after it."""
        self.gate.shut()
        if self.session is not None:
            self.signatures = {}
            self.session.close()
            self.session = None
            gc.collect()  # a graph is full of cycles


def _signature(session, definition, timeout, gate):
    from tensorflow.core.protobuf import config_pb2

    options = config_pb2.CallableOptions()
    options.feed.extend(info.name for info in definition.inputs.values())
    options.fetch.extend(info.name for info in definition.outputs.values())
    options.run_options.timeout_in_ms = int(1000 * timeout)
    # Session.run would refuse shapes that the signature does not have and change the text of errors;
    # TensorFlow Serving does neither.
    run = session._make_callable_from_options(options)
    return Signature(_types(definition.inputs), _types(definition.outputs), run, _joins(definition), gate)


def _types(infos):
    import tensorflow as tf

    return {name: np.dtype(tf.dtypes.as_dtype(info.dtype).as_numpy_dtype) for name, info in infos.items()}


def _joins(definition):
    """See `Signature`: the first axis is open everywhere, and the others of outputs are known."""
    shapes = [
        [tuple(dim.size for dim in info.tensor_shape.dim) for info in infos.values()]
        for infos in (definition.inputs, definition.outputs)
    ]
    known = all(
        not info.tensor_shape.unknown_rank
        for infos in (definition.inputs, definition.outputs)
        for info in infos.values()
    )
    return bool(
        known
        and all(shape[:1] == (-1,) for shape in shapes[0] + shapes[1])
        and all(-1 not in shape[1:] for shape in shapes[1])
    )
