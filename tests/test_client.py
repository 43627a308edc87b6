import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import keras_bert_app as kba
from keras_bert_app.serving.client import Client
from keras_bert_app.serving.errors import ServingError

SIGNATURES = {
    "serving_default": {"inputs": {"text": {}}, "outputs": {"embedding": {}}},
    "pairs": {"inputs": {"text_pair": {}, "text": {}}, "outputs": {"label": {}, "score": {}}},
    "__saved_model_init_op": {},
}


@pytest.fixture
def address():
    """A server that answers as it is told: `server.replies` are used up first, `server.seen` is what came."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.reply(200, {"metadata": {"signature_def": {"signature_def": SIGNATURES}}})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.seen.append((self.path, body, self.headers.get("Authorization")))
            if server.replies:
                self.reply(*server.replies.pop(0))
            elif body.get("signature_name") == "pairs":
                rows = [{"label": row["text"], "score": len(row["text_pair"])} for row in body["instances"]]
                self.reply(200, {"predictions": rows})
            else:
                self.reply(200, {"predictions": [[len(text)] for text in body["instances"]]})

        def reply(self, status, document):
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.replies, server.seen = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}/v1/models/m"
    yield server
    server.shutdown()
    server.server_close()


def test_batches(address):
    client = kba.serving.Client(address.url, batch_size=2, token="secret")
    assert client.predict(["a", "bb", "ccc"]) == [{"embedding": [n]} for n in (1, 2, 3)]
    assert [body["instances"] for _, body, _ in address.seen] == [["a", "bb"], ["ccc"]]
    assert {(path, token) for path, _, token in address.seen} == {("/v1/models/m:predict", "Bearer secret")}
    assert client.predict([]) == []


def test_pairs(address):
    client = Client(f"{address.url}/labels/stable/")
    expected = [{"label": "a", "score": 2}]
    assert client.predict([("a", "bb")], "pairs") == expected
    assert client.predict([{"text_pair": "bb", "text": "a"}], "pairs") == expected
    assert address.seen[0][0] == "/v1/models/m/labels/stable:predict"
    with pytest.raises(ValueError, match="the model takes text: give a dict for each input"):
        client.predict([("a", "b")])
    with pytest.raises(ValueError, match="signature_name='none': the model has pairs, serving_default"):
        client.signature("none")


def test_a_busy_server_is_asked_again(address):
    address.replies = [(503, {"error": "busy"}), (429, {"error": "busy"})]
    assert Client(address.url).predict(["a"]) == [{"embedding": [1]}]
    assert len(address.seen) == 3
    address.replies = [(503, {"error": "busy"})] * 2
    with pytest.raises(ServingError, match="busy") as raised:
        Client(address.url, retries=1).predict(["a"])
    assert (raised.value.code, raised.value.http_status) == ("UNAVAILABLE", 503)


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (400, {"error": "no text"}, "INVALID_ARGUMENT", "m:predict: no text"),
        (404, b"<html>", "NOT_FOUND", "m:predict: Not Found"),
        (504, {"error": "late"}, "DEADLINE_EXCEEDED", "late"),
        (418, b"", "UNKNOWN", "m:predict: "),
    ],
)
def test_what_is_refused(address, status, body, code, message):
    address.replies = [(status, body)]
    with pytest.raises(ServingError, match=message) as raised:
        Client(address.url).predict(["a"])
    assert (raised.value.code, raised.value.http_status) == (code, status)
    assert len(address.seen) == 1


def test_what_json_has(address):
    with pytest.raises(ValueError, match="'Hey!' is one text: give a list"):
        Client(address.url).predict("Hey!")
    address.replies = [(200, {"predictions": [{"b64": "aGVsbG8="}]})]
    assert Client(address.url).predict(["a"]) == [{"embedding": {"b64": "aGVsbG8="}}]
    Client(address.url).predict([[float("nan")]])
    assert str(address.seen[-1][1]["instances"]) == "[[nan]]"


def test_a_server_that_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1/models/m"
        with pytest.raises(TimeoutError, match="does not answer within 0.1 seconds"):
            Client(url, timeout=0.1, retries=1).predict(["a"])


def test_no_server():
    with pytest.raises(ConnectionError, match="http://127.0.0.1:9/v1/models/m cannot be reached"):
        Client("http://127.0.0.1:9/v1/models/m", retries=0).predict(["a"])


@pytest.mark.parametrize(
    "url", ["localhost:8501/v1/models/m", "http://localhost:8501", "http://x/v1/models/"]
)
def test_addresses_that_are_no_model(url):
    with pytest.raises(
        ValueError, match="give the address of a model, such as http://localhost:8501/v1/models"
    ):
        Client(url)


def test_the_command_line(address, keras_bert, tmp_path):
    code, out, _ = keras_bert("predict", "--url", address.url, "a", "bb")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {"text": "a", "embedding": [1]},
        {"text": "bb", "embedding": [2]},
    ]
    (tmp_path / "texts.csv").write_text("text\nccc\n")
    assert '"embedding": [3]' in keras_bert("predict", "--url", address.url, "--file", "texts.csv")[1]
    assert '"embedding": [4]' in keras_bert("predict", "--url", address.url, stdin=b"dddd\n")[1]
    assert "takes neither --task nor" in keras_bert("predict", "--url", address.url, "a", "--task", "b")[2]
    SIGNATURES["serving_default"]["inputs"] = {"question": {}, "context": {}}
    try:
        assert (
            "1 texts: the model takes question and context"
            in keras_bert("predict", "--url", address.url, "a")[2]
        )
        SIGNATURES["serving_default"]["inputs"] = {"x": {}}
        assert "takes x: only models that take texts" in keras_bert("predict", "--url", address.url, "a")[2]
    finally:
        SIGNATURES["serving_default"]["inputs"] = {"text": {}}
