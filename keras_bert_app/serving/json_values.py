"""JSON as TensorFlow Serving reads it and writes it.

It reads with RapidJSON, with NaN and infinities allowed, and stops after the first value; the messages of
errors are those of RapidJSON. Reference: `tensorflow_serving/util/json_tensor.cc`.
"""

import base64
import binascii
import codecs
import json
import re

import numpy as np
import rapidjson

from keras_bert_app.serving.errors import ServingError

# Deeper lists can be no tensor; the parser would run out of stack.
DEEPEST = 400
SHOWN = 1000  # characters of a value in a message

# A byte that is no UTF-8 goes through the parser as one of these characters, which no text has.
BYTES = 0x10FF00
codecs.register_error(
    "keras_bert_app.bytes",
    lambda error: ("".join(chr(BYTES + byte) for byte in error.object[error.start : error.end]), error.end),
)
AS_BYTES = {BYTES + byte: 0xDC00 + byte for byte in range(128, 256)}

BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
OFFSET = re.compile(r"Parse error at offset (\d+): (.*)", re.DOTALL)
TRAILING = "The document root must not be followed by other values."


class _Decoder(rapidjson.Decoder):
    """Of keys that are there twice, the first counts."""

    def start_object(self):
        return []

    def end_object(self, pairs):
        found = {}
        for key, value in pairs:
            found.setdefault(key, value)
        return found


_decode = _Decoder(number_mode=rapidjson.NM_NATIVE | rapidjson.NM_NAN)


def parse(body):
    """The JSON object that a body holds.

    Args:
        body: bytes.

    Returns:
        dict. Bytes in its texts that are no UTF-8 are kept, see `to_bytes`.

    Raises:
        ServingError: it holds none.
    """
    if not body:
        raise ServingError("JSON Parse error: The document is empty")
    text = body.removeprefix(codecs.BOM_UTF8).decode("utf-8", "keras_bert_app.bytes")
    try:
        value = _parse(text)
    except RecursionError:
        value = _parse(_shallow(text))
    if not isinstance(value, dict):
        raise ServingError(f"JSON Value: {show(value)} Is not object")
    return value


def _parse(text):
    try:
        return _decode(text)
    except rapidjson.JSONDecodeError as error:
        offset, message = OFFSET.fullmatch(str(error)).groups()
        if message == TRAILING:
            return _decode(text.encode()[: int(offset)])
        raise ServingError(f"JSON Parse error: {message} at offset: {offset}") from None


def _shallow(text):
    """The text without what is nested deeper than `DEEPEST`."""
    kept, start, depth = [], 0, 0
    for found in BRACKETS.finditer(text):
        if found[0] in ("[", "{"):
            depth += 1
            if depth == DEEPEST:
                kept.append(text[start : found.start()])
        elif found[0] in ("]", "}"):
            if depth == DEEPEST:
                kept.append("null")
                start = found.end()
            depth -= 1
    return "".join(kept) + (text[start:] if depth < DEEPEST else "")


def show(value):
    """A value in the message of an error, cut if it is large."""
    options = {"number_mode": rapidjson.NM_NAN, "write_mode": rapidjson.WM_SINGLE_LINE_ARRAY, "indent": 4}
    text = rapidjson.dumps(_clipped(value), ensure_ascii=False, **options).translate(AS_BYTES)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _clipped(value, depth=20):
    """As much of a value as can be shown."""
    if isinstance(value, str):
        return value[:SHOWN]
    if isinstance(value, list | dict) and not depth:
        return "..."
    if isinstance(value, list):
        return [_clipped(item, depth - 1) for item in value[:SHOWN]]
    if isinstance(value, dict):
        return {key: _clipped(item, depth - 1) for key, item in list(value.items())[:SHOWN]}
    return value


def type_name(value):
    """What RapidJSON calls the type of a value."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    names = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return names[type(value)]


def to_bytes(text):
    """The bytes of a text that was parsed."""
    try:
        found = text.encode()
    except UnicodeEncodeError:  # the parser lets no lone surrogate through
        raise ServingError("JSON Parse error: The surrogate pair in string is invalid.") from None
    if b"\xf4\x8f\xbe" in found or b"\xf4\x8f\xbf" in found:  # may hold one of `BYTES`
        return text.translate(AS_BYTES).encode("utf-8", "surrogateescape")
    return found


def is_base64(value):
    """True for `{"b64": "..."}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def from_base64(value):
    """The bytes of `{"b64": "..."}`; the padding may be left out."""
    if not is_base64(value):
        raise ServingError(f"JSON Value: {show(value)} not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    bare = text.rstrip("=.")
    padding = len(text) - len(bare)
    try:
        if padding and padding != -len(bare) % 4:
            raise binascii.Error
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ServingError("Unable to base64 decode") from None


def quoted(value):
    """Bytes as a JSON string; what is no UTF-8 stays as it is."""
    return json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False)


def decimals(values):
    """Floating-point numbers as texts: six digits if they are enough, else all, and always a point.

    Args:
        values: flat array of float32 or float64.
    """
    digits = 9 if values.dtype == np.float32 else 17
    numbers = values.tolist()
    short = [f"{number:.6g}" for number in numbers]
    with np.errstate(over="ignore"):
        same = np.array(short, np.float64).astype(values.dtype) == values if short else values
    return [
        _decimal(text if enough else f"{number:.{digits}g}")
        for text, number, enough in zip(short, numbers, same.tolist(), strict=True)
    ]


def _decimal(text):
    if "n" in text:  # nan, inf
        return {"nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[text]
    return text if "." in text or "e" in text else f"{text}.0"


def members(pairs):
    """The text of an object, from pairs of names and texts."""
    return "{" + ", ".join(f"{quoted(name.encode())}: {value}" for name, value in pairs) + "}"


def encode(document):
    """JSON text as the bytes of a reply."""
    return document.encode("utf-8", "surrogateescape")
