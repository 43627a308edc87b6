"""Tensors to JSON, as TensorFlow Serving's predict does it.

Reference: `tensorflow_serving/util/json_tensor.cc`.
"""

import base64
import math

from keras_bert_app.serving.errors import ServingError
from keras_bert_app.serving.json_values import decimals, encode, members, quoted
from keras_bert_app.serving.tensors import EXACT, RANGES, name_of


def flat_texts(name, array):
    """The JSON texts of the values of an array, flat."""
    kind = str(array.dtype)
    if kind in EXACT:
        return decimals(array.reshape(-1))
    if kind in RANGES:
        return list(map(str, array.reshape(-1).tolist()))
    if kind == "bool":
        return ["true" if value else "false" for value in array.reshape(-1).tolist()]
    if kind == "object":
        if name.endswith("_bytes"):
            return [members([("b64", quoted(base64.b64encode(value)))]) for value in array.reshape(-1)]
        return [quoted(value) for value in array.reshape(-1)]
    raise ServingError(f"Failed to write JSON value for tensor type: {name_of(kind)}")


def nested(texts, shape):
    """JSON lists of flat texts, as many as the shape says for its first axis."""
    for size in reversed(shape[1:]):
        count = len(texts) // size if size else math.prod(shape[:-1])
        texts = [f"[{', '.join(texts[i * size : (i + 1) * size])}]" for i in range(count)]
        shape = shape[:-1]
    return texts


def to_rows(outputs):
    """The bytes of a reply to `"instances"`.

    Args:
        outputs: dict from names to arrays.
    """
    number = None
    for name, array in outputs.items():
        if not array.ndim:
            raise ServingError(f"Tensor name: {name} has no shape information ")
        if number is not None and len(array) != number:
            raise ServingError(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {number}"
            )
        number = len(array)
    columns = {name: nested(flat_texts(name, array), array.shape) for name, array in outputs.items()}
    if len(columns) == 1:
        rows = next(iter(columns.values()))
    else:
        rows = [members(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return encode(members([("predictions", f"[{', '.join(rows)}]")]))


def to_columns(outputs):
    """The bytes of a reply to `"inputs"`, see `to_rows`."""
    columns = {name: nested(flat_texts(name, array), (1, *array.shape))[0] for name, array in outputs.items()}
    value = next(iter(columns.values())) if len(columns) == 1 else members(columns.items())
    return encode(members([("outputs", value)]))
