"""Requests of any kind: the server answers each with a status of the contract, never with 500, and lives."""

import http.client
import json
import urllib.parse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import add_model, ask, server

import keras_bert_app as kba

# 501: of a type that JSON cannot have; 404: no such model or version; 413: too large.
STATUSES = {200, 400, 404, 413, 501}
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["a great film", "", " ", "\0", "\ud83d", "e" * 300, "[MASK] [SEP]"])
    | st.builds(lambda text: {"b64": text}, st.text(max_size=9) | st.sampled_from(["aGVsbG8=", "/w==", "@"]))
)
NAMES = st.sampled_from(
    ["x", "text", "inputs", "input_word_ids", "input_mask", "input_type_ids", "b64"]
) | st.text(max_size=3)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
IDS = st.lists(st.lists(st.integers(-2, 70), max_size=4), max_size=3)
DOCUMENTS = st.dictionaries(
    st.sampled_from(["instances", "inputs", "examples", "context", "more"]), VALUES, max_size=3
) | st.builds(
    lambda ids, mask: {"inputs": {"input_word_ids": ids, "input_mask": mask, "input_type_ids": mask}},
    IDS,
    IDS,
)
SIGNATURES = st.sampled_from([None, "serving_default", "ids", "classify", "", "none", 5])
MODELS = st.sampled_from(
    ["add", "reviews", "reviews/versions/1", "reviews/labels/x", "add/versions/9", "none"]
)
VERBS = st.sampled_from(["predict"] * 4 + ["classify", "regress", "PREDICT", "predict?x=1"])


@st.composite
def bodies(draw):
    """JSON, or what is left of it after some bytes were changed."""
    document = draw(DOCUMENTS)
    signature = draw(SIGNATURES)
    if signature is not None:
        document = {"signature_name": signature} | document
    body = json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        place = draw(st.integers(0, len(body)))
        body = body[:place] + draw(st.binary(max_size=3)) + body[place + draw(st.integers(0, 5)) :]
    return body


@st.composite
def paths(draw):
    """Mostly those of models."""
    if draw(st.integers(0, 9)) == 0:
        return "/v1/" + urllib.parse.quote(draw(st.text(max_size=20)), safe="/:?%&")
    return f"/v1/models/{draw(MODELS)}:{draw(VERBS)}"


@pytest.fixture(scope="module")
def process(tmp_path_factory, run_folder):
    folder = tmp_path_factory.mktemp("models")
    (folder / "add").mkdir()
    add_model(folder / "add" / "1", 1)
    kba.export(run_folder, folder / "reviews")
    with server(folder / "add", folder / "reviews", "--max-body-bytes", "2000") as process:
        yield process


@pytest.mark.parametrize("number", [150, pytest.param(20_000, marks=pytest.mark.slow)])
def test_any_request(process, number):
    connection = http.client.HTTPConnection(process.url.removeprefix("http://"), timeout=60)

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(["POST"] * 9 + ["GET", "PUT"]), paths(), bodies(), st.sampled_from([None, "gzip"]))
    def try_one(method, path, body, encoding):
        headers = {"Content-Encoding": encoding} if encoding and len(body) % 7 == 0 else {}
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        found = reply.read()
        assert reply.status in STATUSES, found
        if reply.status == 400 and found:
            assert json.loads(found.decode("utf-8", "replace"))["error"]

    try:
        try_one()
    finally:
        connection.close()
    assert process.poll() is None
    assert ask(f"{process.url}/v1/models/add:predict", {"instances": [1.0]}) == (200, {"predictions": [2.0]})
