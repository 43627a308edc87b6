"""Requests that a server runs when it loads a model, so that the first of a client is not slow."""

import numpy as np

# Where TensorFlow Serving looks for them, a TFRecord file of `PredictionLog`s.
FILE = "assets.extra/tf_serving_warmup_requests"

# What stands for each text input.
TEXTS = {
    "text": "A warm and funny film with a brilliant cast.",
    "text_pair": "I loved every minute.",
    "question": "Who has directed the film?",
    "context": "The film was directed by Ida Lupino in 1953.",
    "choices": ["I loved it.", "It is Tuesday."],
}
ROWS = (1, 8)
LENGTH = 16  # word pieces of an example of ids


def example(names, texts):
    """One row for text inputs: `{name: text}`.

    Args:
        names: of the inputs.
        texts: what the task has in the place of `TEXTS`, a dict.
    """
    return {name: (TEXTS | texts)[name] for name in names}


def requests(signatures, texts):
    """Warm-up requests for signatures.

    Args:
        signatures: dict from names to lists of `tf.TensorSpec`.
        texts: see `example`.

    Returns:
        list of `(signature, arrays)`.
    """
    return [
        (name, {spec.name: _array(spec, name, rows, texts) for spec in specs})
        for name, specs in signatures.items()
        for rows in ROWS
    ]


def _array(spec, signature, rows, texts):
    import tensorflow as tf

    if spec.dtype != tf.string:
        return np.ones((rows, LENGTH), spec.dtype.as_numpy_dtype)
    if signature in ("classify", "regress"):
        feature = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
            for name, text in (TEXTS | texts).items()
            if isinstance(text, str)
        }
        value = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    else:
        value = (TEXTS | texts)[spec.name]
    return np.array([value] * rows, object)


def write_requests(path, found):
    """Writes `(signature, arrays)`s to a file of `PredictionLog` records."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, arrays in found:
            log = prediction_log_pb2.PredictionLog()
            kind = signature if signature in ("classify", "regress") else "predict"
            request = getattr(log, f"{kind}_log").request
            request.model_spec.signature_name = signature
            if kind == "predict":
                for name, array in arrays.items():
                    request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
            else:
                for value in arrays["inputs"]:
                    request.input.example_list.examples.add().ParseFromString(value)
            writer.write(log.SerializeToString())


def read_requests(path):
    """`(signature, arrays)` of each predict, classify and regress request in a file of `PredictionLog`s.

    Raises:
        ValueError: the file is damaged.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        try:
            log = prediction_log_pb2.PredictionLog.FromString(record)
        except DecodeError as error:
            raise ValueError(f"{path} is damaged ({error}): export the model again") from None
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            request = log.predict_log.request
            arrays = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        elif kind in ("classify_log", "regress_log"):
            request = getattr(log, kind).request
            examples = request.input.example_list.examples
            arrays = {"inputs": np.array([e.SerializeToString() for e in examples], object)}
        else:  # multi-inference and sessions, which there is no REST for
            continue
        yield request.model_spec.signature_name, arrays
