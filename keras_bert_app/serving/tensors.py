"""JSON to tensors, as TensorFlow Serving's predict does it.

Reference: `tensorflow_serving/util/json_tensor.cc`.
"""

import math

import numpy as np

from keras_bert_app.serving.errors import ServingError
from keras_bert_app.serving.json_values import (
    from_base64,
    is_base64,
    show,
    to_bytes,
    type_name,
)

MOST_AXES = 63  # of NumPy, without that of the batch
STRING = np.dtype(object)  # of bytes objects
# Names of types as TensorFlow's C++ code has them, by those of NumPy.
TYPE_NAMES = {
    "float32": "float", "float64": "double", "float16": "half", "object": "string", "bool": "bool",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip
# From where to where a whole number may be; 8 and 16 bits are cut from 32 without a word.
RANGES = {
    "int8": (-(2**31), 2**31 - 1), "uint8": (-(2**31), 2**31 - 1), "int16": (-(2**31), 2**31 - 1),
    "int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1), "uint64": (0, 2**64 - 1),
}  # fmt: skip
# The largest whole number that is exact, and the largest number.
EXACT = {
    "float32": (2**24 - 1, float(np.finfo(np.float32).max)),
    "float64": (2**53 - 1, float(np.finfo(np.float64).max)),
}


def name_of(dtype):
    """What TensorFlow calls a type of NumPy in its messages."""
    return TYPE_NAMES.get(str(dtype), str(dtype))


def of_type_error(value, dtype):
    """The error of a value of another type."""
    return ServingError(
        f"JSON Value: {show(value)} Type: {type_name(value)} is not of expected type: {name_of(dtype)}"
    )


def lossy_error(value, dtype):
    """The error of a number that the type cannot hold."""
    return ServingError(
        f"Cannot convert JSON value: {show(value)} to {name_of(dtype)} without loss of precision."
    )


def _number(value, dtype):
    if type(value) not in (int, float):
        raise of_type_error(value, dtype)
    whole, largest = EXACT[str(dtype)]
    if type(value) is int:
        lossless = abs(value) <= whole
    else:
        lossless = not math.isfinite(value) or abs(value) <= largest
    if not lossless:
        raise lossy_error(value, dtype)
    return value


def _whole(value, dtype):
    least, most = RANGES[str(dtype)]
    if type(value) is not int or not least <= value <= most:
        raise of_type_error(value, dtype)
    return value


def _bool(value, dtype):
    if type(value) is not bool:
        raise of_type_error(value, dtype)
    return value


def _string(value, dtype):
    if isinstance(value, dict):
        return from_base64(value)
    if type(value) is not str:
        raise of_type_error(value, dtype)
    return to_bytes(value)


def _unknown(value, dtype):
    raise ServingError(f"Conversion of JSON Value: {show(value)} to type: {name_of(dtype)}", "UNIMPLEMENTED")


CONVERTERS = {
    **dict.fromkeys(EXACT, _number), **dict.fromkeys(RANGES, _whole), "bool": _bool, "object": _string,
}  # fmt: skip


def dense_shape(value):
    """The shape of nested lists, from the first of each."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
        if len(shape) > MOST_AXES:
            raise ServingError(
                f"lists are nested in more than {MOST_AXES} levels: no tensor has so many axes"
            )
    return shape


def fill(value, dtype, shape, found, level=0):
    """Appends the values of nested lists to the list `found`, if they have the shape."""
    if not isinstance(value, list):
        if level != len(shape):
            raise ServingError(
                f"JSON Value: {show(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        if isinstance(value, dict) and dtype != STRING:
            raise of_type_error(value, dtype)
        found.append(CONVERTERS.get(str(dtype), _unknown)(value, dtype))
        return
    if level >= len(shape):
        raise ServingError(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise ServingError(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    if level + 1 == len(shape) and _all_fit(value, dtype):
        found.extend(value)
        return
    for item in value:
        fill(item, dtype, shape, found, level + 1)


def _all_fit(values, dtype):
    """True if each is a number that the type takes: the quick way for long lists."""
    types = set(map(type, values))
    if types == {float} and dtype in (np.float32, np.float64):
        return max(map(abs, values)) <= EXACT[str(dtype)][1]  # False if one is not a number
    if types == {int} and str(dtype) in RANGES:
        least, most = RANGES[str(dtype)]
        return least <= min(values) and max(values) <= most
    return False


def to_array(values, dtype, shape):
    """A NumPy array of flat values."""
    if dtype == STRING:
        array = np.empty(len(values), object)
        array[:] = values
        return array.reshape(shape)
    if str(dtype) in RANGES:  # what is too large for 8 or 16 bits is cut
        return np.array(values, np.uint64 if dtype == np.uint64 else np.int64).astype(dtype).reshape(shape)
    return np.array(values, dtype).reshape(shape)


def from_columns(value, inputs):
    """The arrays of `"inputs"`.

    Args:
        value: JSON value.
        inputs: dict from names to types of NumPy.
    """
    if not isinstance(value, dict) or is_base64(value):
        if len(inputs) > 1:
            raise ServingError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required "
                "as per tensorinfo_map"
            )
        value = dict.fromkeys(inputs, value)
    arrays = {}
    for name, dtype in inputs.items():
        if name not in value:
            raise ServingError(f"Missing named input: {name} in 'inputs' object.")
        shape, found = dense_shape(value[name]), []
        fill(value[name], dtype, shape, found)
        arrays[name] = to_array(found, dtype, shape)
    return arrays


def from_rows(rows, inputs):
    """The arrays of `"instances"`, see `from_columns`."""
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise ServingError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            "as per tensorinfo_map"
        )
    named = isinstance(rows[0], dict) and not is_base64(rows[0])
    shapes, values = {}, {name: [] for name in inputs}
    for index, row in enumerate(rows):
        if named != (isinstance(row, dict) and not is_base64(row)):
            expected, got = ("object", "list") if named else ("value/list", "object")
            raise ServingError(f"Expecting {expected} but got {got} at item {index} of input list")
        for name, item in row.items() if named else [(next(iter(inputs)), row)]:
            try:
                _add(name, item, inputs, shapes, values)
            except ServingError as error:
                key = f" key: {name}" if named else ""
                raise ServingError(
                    f"Failed to process element: {index}{key} of 'instances' list. Error: {error}"
                ) from None
        if named and row.keys() != inputs.keys():
            raise ServingError(
                f"Failed to process element: {index} of 'instances' list. JSON object: {show(row)} "
                f"keys must be equal to: {','.join(sorted(inputs))}"
            )
    return {name: to_array(values[name], dtype, [len(rows), *shapes[name]]) for name, dtype in inputs.items()}


def _add(name, item, inputs, shapes, values):
    """One input of one row."""
    if name not in inputs:
        raise ServingError(f"JSON object: does not have named input: {name}")
    shape, before = dense_shape(item), len(values[name])
    fill(item, inputs[name], shape, values[name])
    size = len(values[name]) - before
    first = shapes.setdefault(name, shape)
    if size != math.prod(first):
        raise ServingError(f"Expecting tensor size: {math.prod(first)} but got: {size}")
    if shape != first:
        raise ServingError(f"Expecting shape {_shape(first)} but got: {_shape(shape)}")


def _shape(shape):
    return f"[{','.join(map(str, shape))}]"
