import json

import numpy as np
import pytest

from keras_bert_app.serving import examples, json_values, replies, tensors
from keras_bert_app.serving.errors import ServingError

FLOAT, DOUBLE, STRING = np.dtype("float32"), np.dtype("float64"), np.dtype(object)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),  # a byte order mark
        (b'{"a": 1, "a": 2}', {"a": 1}),
        (b'{"a": {"b": 1, "b": 2}}', {"a": {"b": 1}}),
        (b'{"a": 1} and more', {"a": 1}),
        ('{"a": "\u00e9"} \u00e9'.encode(), {"a": "\u00e9"}),
        (b'{"a": [18446744073709551615, -9223372036854775808]}', {"a": [2**64 - 1, -(2**63)]}),
        (b'{"a": 18446744073709551616}', {"a": 2.0**64}),
        (b'{"a": [Infinity, -Infinity]}', {"a": [float("inf"), -float("inf")]}),
        (b'{"a": "\\u0000\\ud83d\\ude00"}', {"a": "\0\U0001f600"}),
    ],
)
def test_parse(body, expected):
    assert json_values.parse(body) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"instances = [1]", "JSON Parse error: Invalid value. at offset: 0"),
        (b'{"a": 1,}', "JSON Parse error: Missing a name for object member. at offset: 8"),
        (b'{"a": [1,]}', "JSON Parse error: Invalid value. at offset: 9"),
        (b'{"a": 1 /* one */}', "Missing a comma or } after an object member"),
        (b'{"a": "\\ud800"}', "The surrogate pair in string is invalid."),
        (b'{"a": 1e400}', "Number too big to be stored in double."),
        (b"[1.0]", r"JSON Value: [1.0] Is not object"),
    ],
)
def test_what_is_no_json_object(body, message):
    with pytest.raises(ServingError) as raised:
        json_values.parse(body)
    assert message.replace("or }", "or '}'") in raised.value.message
    assert raised.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("depth", [2, 399, 400, 401, 20_000, 200_000])
def test_deep_nesting_does_no_harm(depth):
    body = b'{"deep": [{"a": "]\\""}, %b%b], "b": 1}' % (b"[" * depth, b"]" * depth)
    assert json_values.parse(body)["b"] == 1


def test_deep_nesting_that_is_not_closed():
    with pytest.raises(ServingError, match="JSON Parse error"):
        json_values.parse(b'{"a": ' + b"[" * 20_000)


def test_bytes_that_are_no_utf8_are_kept():
    found = json_values.parse(b'{"a": ["caf\xe9", "\xff\xfe", "\xc3\xa9\\u00e9"]}')["a"]
    assert [json_values.to_bytes(text) for text in found] == [
        b"caf\xe9",
        b"\xff\xfe",
        "\u00e9\u00e9".encode(),
    ]
    assert json_values.encode(json_values.quoted(b'\xff"\n')) == b'"\xff\\"\\n"'


@pytest.mark.parametrize("text", ["aGVsbG8=", "aGVsbG8", "aGVs\nbG8="])
def test_base64(text):
    assert json_values.from_base64({"b64": text}) == b"hello"


@pytest.mark.parametrize("text", ["@@@", "a", "aGVsbG8=="])
def test_what_is_no_base64(text):
    with pytest.raises(ServingError, match="Unable to base64 decode"):
        json_values.from_base64({"b64": text})
    with pytest.raises(ServingError, match="not formatted correctly for base64 data"):
        json_values.from_base64({"b64": text, "more": 1})


def test_decimals():
    # From FromJsonSingleFloatTensorSixDigitPrecision of TensorFlow Serving's json_tensor_test.cc.
    values = np.array([9000000, 999999, 0.5, 0.0003, 0.00003, 555557.5], FLOAT)
    assert json_values.decimals(values) == ["9e+06", "999999.0", "0.5", "0.0003", "3e-05", "555557.5"]
    values = np.array([0.2, 1 / 3, 16777216, -0.0, np.nan, np.inf, -np.inf], FLOAT)
    assert json_values.decimals(values) == [
        "0.2", "0.333333343", "16777216.0", "-0.0", "NaN", "Infinity", "-Infinity",
    ]  # fmt: skip
    assert json_values.decimals(np.array([0.1, 1 / 3])) == ["0.1", "0.33333333333333331"]
    assert json_values.decimals(np.array([], FLOAT)) == []
    random = np.random.default_rng(0).normal(size=1000).astype(FLOAT)
    np.testing.assert_array_equal(np.array(json_values.decimals(random), FLOAT), random)


def rows_of(rows, **inputs):
    return tensors.from_rows(rows, {name: np.dtype(dtype) for name, dtype in inputs.items()})


def columns_of(value, **inputs):
    return tensors.from_columns(value, {name: np.dtype(dtype) for name, dtype in inputs.items()})


def test_rows():
    found = rows_of([[[1, 2.5]], [[float("inf"), 4]]], x="float32")["x"]
    assert found.dtype == FLOAT
    assert found.tolist() == [[[1, 2.5]], [[float("inf"), 4]]]
    found = rows_of([{"i": [1, 2], "s": "a"}, {"s": {"b64": "/w=="}, "i": [3, 4]}], i="int32", s=object)
    assert found["i"].dtype == np.int32
    assert found["i"].tolist() == [[1, 2], [3, 4]]
    assert found["s"].tolist() == [b"a", b"\xff"]
    assert rows_of([{"b64": "/w=="}], s=object)["s"].tolist() == [b"\xff"]
    assert rows_of([{"s": {"b64": "/w=="}}], s=object)["s"].tolist() == [b"\xff"]
    assert rows_of([300, -129], x="int8")["x"].tolist() == [44, 127]
    assert rows_of([2**64 - 1], x="uint64")["x"].tolist() == [2**64 - 1]
    assert rows_of([-(2**63), 2**53 + 1], x="int64")["x"].tolist() == [-(2**63), 2**53 + 1]
    assert rows_of([[True], [False]], x="bool")["x"].tolist() == [[True], [False]]


def test_columns():
    assert columns_of(3.0, x="float32")["x"].shape == ()
    assert columns_of([], x="float32")["x"].shape == (0,)
    assert columns_of({"b64": "aGVsbG8="}, x=object)["x"].item() == b"hello"
    found = columns_of({"i": [[1, 2]], "s": ["a"], "more": None}, i="int32", s=object)
    assert found.keys() == {"i", "s"}


@pytest.mark.parametrize(
    ("rows", "inputs", "message"),
    [
        (["x"], {"x": "float32"}, 'JSON Value: "x" Type: String is not of expected type: float'),
        ([True], {"x": "float32"}, "Type: True is not of expected type: float"),
        ([None], {"x": object}, "Type: Null is not of expected type: string"),
        ([1.0], {"x": "int32"}, "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ([2**31], {"x": "int16"}, "is not of expected type: int16"),
        ([-1], {"x": "uint32"}, "is not of expected type: uint32"),
        ([1], {"x": "bool"}, "is not of expected type: bool"),
        ([16777217], {"x": "float32"}, "JSON value: 16777217 to float without loss of precision"),
        ([1e39], {"x": "float32"}, "to float without loss of precision"),
        ([2**53 + 1], {"x": "float64"}, "to double without loss of precision"),
        ([1.0], {"x": "float16"}, "UNIMPLEMENTED: Conversion of JSON Value: 1.0 to type: half"),
        ([[1, 2], [3]], {"x": "int32"}, "element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting "
         "tensor size: 2 but got: 1"),
        ([[1, 2], [[3], [4]]], {"x": "int32"}, "Expecting shape [2] but got: [2,1]"),
        ([1, [1]], {"x": "int32"}, "Expecting shape [] but got: [1]"),
        ([[[1, 2], [3]]], {"x": "int32"}, "list at unexpected size: 1 at level: 1 expected size: 2"),
        ([[1, [2]]], {"x": "int32"}, "Encountered list at unexpected level: 1 expected < 1"),
        ([[[1], 2]], {"x": "int32"}, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at "
         "level: 2"),
        ([[{"a": 1}]], {"x": "float32"}, "Type: Object is not of expected type: float"),
        ([{"x": 1}, 2], {"x": "int32"}, "Expecting object but got list at item 1"),
        ([1, {"x": 2}], {"x": "int32"}, "Expecting value/list but got object at item 1"),
        ([1], {"x": "int32", "y": "int32"}, "instances is a plain list, but expecting list of objects"),
        ([{"x": 1}], {"x": "int32", "y": "int32"}, "keys must be equal to: x,y"),
        ([{"x": 1, "z": 1}], {"x": "int32"}, "key: z of 'instances' list. Error: INVALID_ARGUMENT: JSON "
         "object: does not have named input: z"),
    ],
)  # fmt: skip
def test_rows_that_are_no_tensor(rows, inputs, message):
    with pytest.raises(ServingError) as raised:
        rows_of(rows, **inputs)
    assert message in raised.value.message
    assert raised.value.http_status == 400


@pytest.mark.parametrize("depth", [64, 65, 300, 900, 5000])
def test_lists_that_are_nested_too_deeply(depth):
    document = json_values.parse(b'{"a": %b1%b}' % (b"[" * depth, b"]" * depth))
    for read in (lambda: rows_of([document["a"]], x="int32"), lambda: columns_of(document["a"], x="int32")):
        with pytest.raises(ServingError, match="nested in more than 63 levels"):
            read()
    assert len(json_values.show(document)) < 1100


def test_what_is_shown_is_cut():
    assert json_values.show(["x" * 5000] * 5000).startswith('["xxx')
    assert len(json_values.show(["x" * 5000] * 5000)) == 1003
    text = json_values.show(json_values.parse(b'{"a": "\xff"}'))
    assert json_values.encode(text) == b'{\n    "a": "\xff"\n}'


def test_columns_that_are_no_tensor():
    with pytest.raises(ServingError, match="Missing named input: y in 'inputs' object"):
        columns_of({"x": [1]}, x="int32", y="int32")
    with pytest.raises(ServingError, match="inputs is a plain value/list, but expecting an object"):
        columns_of([1], x="int32", y="int32")
    with pytest.raises(ServingError, match="to type: half") as raised:
        columns_of([1], x="float16")
    assert raised.value.http_status == 501


def test_replies():
    outputs = {
        "f": np.array([[1.5, 2], [3, np.nan]], FLOAT),
        "s": np.array([b"a", b'"\xc3\xa9'], object),
        "s_bytes": np.array([b"hello", b"\xff"], object),
        "i": np.array([[[1], [2]], [[3], [4]]], np.int64),
        "b": np.array([True, False]),
    }
    rows = replies.to_rows(outputs)
    assert rows.decode() == (
        '{"predictions": [{"f": [1.5, 2.0], "s": "a", "s_bytes": {"b64": "aGVsbG8="}, "i": [[1], [2]], '
        '"b": true}, {"f": [3.0, NaN], "s": "\\"\u00e9", "s_bytes": {"b64": "/w=="}, "i": [[3], [4]], '
        '"b": false}]}'
    )
    columns = json.loads(replies.to_columns(outputs))["outputs"]
    assert columns["i"] == outputs["i"].tolist()
    assert columns["b"] == [True, False]
    assert replies.to_columns({"y": np.array(3.5, FLOAT)}) == b'{"outputs": 3.5}'
    assert replies.to_rows({"y": np.zeros((0, 2), FLOAT)}) == b'{"predictions": []}'
    assert replies.to_rows({"y": np.zeros((2, 0), FLOAT)}) == b'{"predictions": [[], []]}'


def test_replies_that_json_cannot_have():
    with pytest.raises(ServingError, match="Tensor name: y has no shape information"):
        replies.to_rows({"y": np.array(1.0)})
    with pytest.raises(ServingError, match="b has inconsistent batch size: 3 expecting: 2"):
        replies.to_rows({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(ServingError, match="tensor type: half"):
        replies.to_rows({"y": np.zeros(2, np.float16)})
    with pytest.raises(ServingError, match="tensor type: complex64"):
        replies.to_columns({"y": np.zeros(2, np.complex64)})


def test_examples():
    from tensorflow.core.example.example_pb2 import Example

    document = {
        "context": {"query": "pizza"},
        "examples": [
            {
                "names": ["foo", {"b64": "aGVsbG8="}],
                "ratings": [8.0, float("nan")],
                "age": 20,
                "is": [1, True],
            },
            {"names": []},
        ],
    }
    first, second = map(Example.FromString, examples.serialized_examples(document))
    features = first.features.feature
    assert list(features["names"].bytes_list.value) == [b"foo", b"hello"]
    assert features["ratings"].float_list.value[0] == 8
    assert np.isnan(features["ratings"].float_list.value[1])
    assert list(features["age"].int64_list.value) == [20]
    assert list(features["is"].int64_list.value) == [1, 1]
    assert list(features["query"].bytes_list.value) == [b"pizza"]
    assert second.features.feature.keys() == {"query", "names"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "key 'examples' is expected and was not found"),
        ({"examples": {}}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [[1]]}, "Example must be JSON object but got JSON Array"),
        ({"context": [], "examples": [{}]}, "Example must be JSON object but got JSON Array"),
        ({"examples": [{"a": [10, None]}]}, "Feature: a has element with unexpected JSON type: Null"),
        ({"examples": [{"a": [[10]]}]}, "unexpected JSON type: Array"),
        ({"examples": [{"a": {"b": 1}}]}, "unexpected JSON type: Object"),
        ({"examples": [{"a": [10, 10.0]}]}, "element type in feature: a expecting type: int64"),
        ({"examples": [{"a": ["x", 1]}]}, "expecting type: bytes"),
        ({"examples": [{"a": 2**64 - 1}]}, "Only int64 is supported"),
        ({"examples": [{"a": 1e300}]}, "to float without loss of precision"),
    ],
)
def test_what_is_no_example(document, message):
    with pytest.raises(ServingError) as raised:
        examples.serialized_examples(document)
    assert message in raised.value.message


def test_classifications():
    classes, scores = np.array([[b"car", b"bus"]], object), np.array([[0.2, 0.8]], FLOAT)
    both = examples.classifications({"classes": classes, "scores": scores}, 1)
    assert both == b'{"results": [[["car", 0.2], ["bus", 0.8]]]}'
    assert examples.classifications({"scores": scores}, 1) == b'{"results": [[["", 0.2], ["", 0.8]]]}'
    assert examples.classifications({"classes": classes}, 1) == b'{"results": [[["car", 0.0], ["bus", 0.0]]]}'
    for outputs, message in (
        ({"scores": scores[0]}, r"\[batch_size num_classes\] but got \[2\]"),
        ({"scores": scores.astype(DOUBLE)}, "Expected scores Tensor of DT_FLOAT"),
        ({"classes": scores}, "Expected classes Tensor of DT_STRING"),
        ({"scores": scores, "classes": classes[:, :1]}, "should match in dim_size"),
    ):
        with pytest.raises(ServingError, match=message):
            examples.classifications(outputs, 1)
    with pytest.raises(ServingError, match="output batch size of 2. Got: 1"):
        examples.classifications({"scores": scores}, 2)


def test_regressions():
    values = np.array([0.2, np.inf], FLOAT)
    assert examples.regressions({"outputs": values}, 2) == b'{"results": [0.2, Infinity]}'
    assert examples.regressions({"outputs": values[:, None]}, 2) == b'{"results": [0.2, Infinity]}'
    for outputs, number, message in (
        (np.zeros((2, 2), FLOAT), 2, r"\[batch_size\] or \[batch_size, 1\] but got \[2,2\]"),
        (values, 3, "did not match output batch size: 3 vs. 2"),
        (values.astype(DOUBLE), 2, "Expected output Tensor of DT_FLOAT"),
    ):
        with pytest.raises(ServingError, match=message):
            examples.regressions({"outputs": outputs}, number)
