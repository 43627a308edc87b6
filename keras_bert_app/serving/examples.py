"""JSON to `tf.Example`s and results back, as TensorFlow Serving's classify and regress do it.

Reference: `tensorflow_serving/util/json_tensor.cc`, and `classifier.cc` and `regressor.cc` in
`tensorflow_serving/servables/tensorflow`.
"""

import math

import numpy as np

from keras_bert_app.serving.errors import ServingError
from keras_bert_app.serving.json_values import (
    decimals,
    encode,
    from_base64,
    is_base64,
    members,
    quoted,
    show,
    to_bytes,
    type_name,
)
from keras_bert_app.serving.tensors import EXACT, lossy_error

KINDS = {"int64_list": "int64", "float_list": "float", "bytes_list": "bytes"}


def serialized_examples(document):
    """An array `(batch,)` of the `tf.Example`s of a request, serialized, the context before each."""
    context = _example(document["context"]) if "context" in document else b""
    if "examples" not in document:
        raise ServingError(
            f"JSON Value: {show(document)} When method is classify, key 'examples' is expected "
            "and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise ServingError(f"JSON Value: {show(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise ServingError(f"JSON Value: {show(document)} 'examples' value is an empty array")
    found = np.empty(len(examples), object)
    found[:] = [context + _example(example) for example in examples]
    return found


def _example(value):
    from tensorflow.core.example import example_pb2

    if not isinstance(value, dict):
        raise ServingError(f"Example must be JSON object but got JSON {type_name(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _add(item, name, feature)
    return example.SerializeToString(deterministic=True)


def _add(value, name, feature):
    """One value of a feature; the first says of which kind all are."""
    kind, value = _of_kind(value, name)
    given = feature.WhichOneof("kind")
    if given not in (None, kind):
        raise ServingError(f"Unexpected element type in feature: {name} expecting type: {KINDS[given]}")
    getattr(feature, kind).value.append(value)


def _of_kind(value, name):
    if isinstance(value, bool):
        return "int64_list", int(value)
    if isinstance(value, str):
        return "bytes_list", to_bytes(value)
    if is_base64(value):
        return "bytes_list", from_base64(value)
    if isinstance(value, float):
        if math.isfinite(value) and abs(value) > EXACT["float32"][1]:
            raise lossy_error(value, np.dtype("float32"))
        return "float_list", value
    if isinstance(value, int):
        if value >= 2**63:
            raise ServingError(f"Feature: {name} has uint64 element. Only int64 is supported.")
        return "int64_list", value
    raise ServingError(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")


def classifications(outputs, number):
    """The bytes of a reply to classify.

    Args:
        outputs: dict with `classes`, string `(batch, num_classes)`, or `scores`, float32
            `(batch, num_classes)`, or both.
        number: of examples.
    """
    for name, dtype, kind in (("classes", object, "STRING"), ("scores", np.float32, "FLOAT")):
        if name not in outputs:
            continue
        array = outputs[name]
        if array.ndim != 2:
            raise ServingError(
                f"Expected Tensor shape: [batch_size num_classes] but got [{','.join(map(str, array.shape))}]"
            )
        if array.dtype != dtype:
            raise ServingError(f"Expected {name} Tensor of DT_{kind}. Got: {array.dtype}")
        if len(array) != number:
            raise ServingError(f"Expected {name} output batch size of {number}. Got: {len(array)}")
    shapes = [outputs[name].shape for name in ("classes", "scores") if name in outputs]
    if shapes[0] != shapes[-1]:
        raise ServingError(
            f"Tensors class and score should match in dim_size(1). Got {shapes[0][1]} vs. {shapes[1][1]}"
        )
    size = math.prod(shapes[0])
    labels = map(quoted, outputs["classes"].flat) if "classes" in outputs else ['""'] * size
    scores = decimals(outputs["scores"].reshape(-1)) if "scores" in outputs else ["0.0"] * size
    pairs = [f"[{label}, {score}]" for label, score in zip(labels, scores, strict=True)]
    width = shapes[0][1]
    rows = [f"[{', '.join(pairs[row * width : (row + 1) * width])}]" for row in range(number)]
    return encode(members([("results", f"[{', '.join(rows)}]")]))


def regressions(outputs, number):
    """The bytes of a reply to regress.

    Args:
        outputs: dict with `outputs`, float32 `(batch,)` or `(batch, 1)`.
        number: of examples.
    """
    array = outputs["outputs"]
    if array.ndim != 1 and not (array.ndim == 2 and array.shape[1] == 1):
        raise ServingError(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"[{','.join(map(str, array.shape))}]"
        )
    if len(array) != number:
        raise ServingError(f"Input batch size did not match output batch size: {number} vs. {len(array)}")
    if array.dtype != np.float32:
        raise ServingError(f"Expected output Tensor of DT_FLOAT.  Got: {array.dtype}")
    return encode(members([("results", f"[{', '.join(decimals(array.reshape(-1)))}]")]))
