import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import socket
import threading
import time

import pytest
from conftest import DATA, run_python
from rest_cases import difference, send
from serving import add_model, ask, free_port, save_model, server, wait_until

import keras_bert_app as kba

CASES = DATA.parent / "serving" / "tfs_rest_cases.json"
TEXTS = ["the great film", "dull!", "", "film " * 50, "\u00e9\u4e2d \U0001f600"]


@pytest.fixture(scope="module")
def models(tmp_path_factory, run_folder):
    """Folder with models: `add` 1 and 2, `reviews`, and some that go wrong."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("models")
    for name in ("add", "odd"):
        (folder / name).mkdir()
    add_model(folder / "add" / "1", 1)
    add_model(folder / "add" / "00000002", 2)
    kba.export(run_folder, folder / "reviews")
    vector = [tf.TensorSpec([None], tf.float32, name="x")]

    @tf.function(input_signature=vector)
    def positive(x):
        tf.debugging.assert_positive(x, message="x must be positive")
        return {"y": x}

    @tf.function(input_signature=vector)
    def slow(x):
        def step(i, a):
            return i + 1, tf.matmul(a, a) * 0.0

        end = tf.cast(x[0], tf.int32)
        i, _ = tf.while_loop(lambda i, _: i < end, step, [0, tf.zeros([200, 200])])
        return {"y": tf.cast(i, tf.float32)[None]}

    @tf.function(input_signature=vector)
    def double(x):
        return {"y": tf.concat([x, x], 0)}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def three(x):
        return {"y": x}

    save_model(folder / "odd" / "1", positive=positive, slow=slow, double=double, three=three)
    (folder / "models.config").write_text(
        f"""model_config_list {{
          config {{ name: 'add' base_path: '{folder}/add' model_platform: 'tensorflow'
            model_version_policy {{ all {{}} }} version_labels {{ key: 'stable' value: 1 }} }}
          config {{ name: 'odd' base_path: '{folder}/odd' }}
          config {{ name: 'reviews' base_path: '{folder}/reviews' }}
        }}"""
    )
    return folder


@pytest.fixture(scope="module")
def url(models):
    """Address of a server of these models, for all tests that leave it as it is."""
    flags = ["--rest_api_timeout_in_ms", "2000", "--max-body-bytes", "100000"]
    with server("--model_config_file", models / "models.config", *flags, log=models / "log") as process:
        yield process.url


def predict(url, body, model="add", **headers):
    return ask(f"{url}/v1/models/{model}:predict", body, **headers)


def test_versions_and_labels(url):
    assert predict(url, {"instances": [1.0, 2]}) == (200, {"predictions": [3.0, 4.0]})
    assert predict(url, {"instances": [1.0]}, "add/versions/1") == (200, {"predictions": [2.0]})
    assert predict(url, {"inputs": {"x": [1.0]}}, "add/labels/stable") == (200, {"outputs": [2.0]})
    status, found = predict(url, {"instances": [1.0]}, "add/versions/3")
    assert status == 404
    assert found == {"error": "Servable not found for request: Specific(add, 3)"}
    assert predict(url, {"instances": [1.0]}, "add/labels/none")[0] == 400
    status, found = ask(f"{url}/v1/models/add")
    assert [(v["version"], v["state"]) for v in found["model_version_status"]] == [
        ("2", "AVAILABLE"),
        ("1", "AVAILABLE"),
    ]
    assert ask(f"{url}/v1/models/none")[0] == 404


def test_metadata(url):
    status, found = ask(f"{url}/v1/models/reviews/metadata")
    assert status == 200
    assert found["model_spec"] == {"name": "reviews", "signature_name": "", "version": "1"}
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["text"]["dtype"] == "DT_STRING"
    assert signature["inputs"]["text"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}],
        "unknown_rank": False,
    }
    assert signature["method_name"] == "tensorflow/serving/predict"


def test_a_text_model_answers_as_in_python(url, run_folder):
    model = kba.load(run_folder)
    status, found = predict(url, {"instances": TEXTS}, "reviews")
    assert status == 200
    for given, row in zip(TEXTS, found["predictions"], strict=True):
        if given:
            (answer,) = model([given])
            assert row["label"] == answer["label"]
            assert row["score"] == pytest.approx(answer["score"], abs=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": "no batch axis"},
        {"instances": [["two", "axes"]]},
        {"instances": [1]},
        {"instances": [None]},
        {"instances": [{"b64": "@"}]},
        {"instances": []},
        {"instances": [{"text": "a", "more": "b"}]},
    ],
)
def test_what_is_no_text_is_refused(url, body):
    status, found = predict(url, body, "reviews")
    assert status == 400
    assert found["error"]
    assert ask(f"{url}/v1/models/reviews")[0] == 200  # it lives


def test_a_long_text(url):
    status, found = predict(url, {"instances": ["great " * 16_000]}, "reviews")
    assert status == 200
    assert found["predictions"][0]["label"] == "positive"
    status, found = predict(url, {"instances": ["a" * 100_000]}, "reviews")
    assert status == 413
    assert "the body has more than 100000 bytes" in found["error"]
    status, found = predict(url, gzip.compress(b'{"instances": [1.0]}'), **{"Content-Encoding": "gzip"})
    assert (status, found) == (200, {"predictions": [3.0]})
    assert predict(url, b"no gzip", **{"Content-Encoding": "gzip"})[0] == 400
    assert predict(url, gzip.compress(b" " * 100_001), **{"Content-Encoding": "gzip"})[0] == 413


def test_examples(url):
    body = {"signature_name": "classify", "examples": [{"text": "a great film"}, {"text": "dull"}]}
    status, found = ask(f"{url}/v1/models/reviews:classify", body)
    assert status == 200
    best = [max(row, key=lambda pair: pair[1])[0] for row in found["results"]]
    assert best == ["positive", "negative"]
    assert ask(f"{url}/v1/models/reviews:regress", body)[0] == 400
    assert ask(f"{url}/v1/models/add:classify", {"examples": [{"x": 1.0}]})[0] == 400


def test_ids(url, run_folder):
    model = kba.load(run_folder)
    packed = {k: v.numpy().tolist() for k, v in model.preprocessor(["a great film"]).items()}
    status, found = predict(url, {"signature_name": "ids", "inputs": packed}, "reviews")
    assert status == 200
    assert found["outputs"] == [pytest.approx(model.outputs(["a great film"])[0].tolist(), abs=1e-5)]
    packed["input_word_ids"][0][1] = 10**6
    status, found = predict(url, {"signature_name": "ids", "inputs": packed}, "reviews")
    assert status == 400
    assert "input_word_ids must be from 0 to" in found["error"]


def test_shapes_are_what_the_graph_takes(url):
    # As in TensorFlow Serving, the shape of a signature alone refuses nothing.
    body = {"signature_name": "three", "instances": [[1.0, 2.0]]}
    assert predict(url, body, "odd") == (200, {"predictions": [[1.0, 2.0]]})
    status, found = predict(url, {"signature_name": "double", "instances": [1.0]}, "odd")
    assert status == 200
    assert found == {"predictions": [1.0, 1.0]}


def test_errors_of_the_graph(url):
    status, found = predict(url, {"signature_name": "positive", "instances": [-1.0]}, "odd")
    assert status == 400
    assert "x must be positive" in found["error"]
    start = time.monotonic()
    status, found = predict(url, {"signature_name": "slow", "instances": [2e7]}, "odd")
    assert status == 504
    assert time.monotonic() - start < 20
    assert predict(url, {"instances": [1.0]})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/add:predict", 400),
        ("POST", "/v1/models/add", 400),
        ("PUT", "/v1/models/add", 400),
        ("DELETE", "/v1/models/add", 400),
        ("POST", "/v1/models/add:predict?x=1", 400),
        ("POST", "/v1/models/add:PREDICT", 400),
        ("GET", "/V1/MODELS/add", 200),
        ("GET", "/v1/models/%61dd", 200),
        ("GET", "/v1/models", 400),
        ("GET", "/v1/foo", 400),
        ("GET", "/foo", 404),
        ("GET", "/v1/models/add/versions/18446744073709551615", 400),
        ("GET", f"/v1/models/add/versions/{'9' * 5000}", 400),
        ("GET", f"/v1/models/add/versions/{'0' * 5000}1", 200),
        ("OPTIONS", "/v1/models/add", 400),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
    ],
)
def test_paths(url, method, path, status):
    case = {"method": method, "path": path, "headers": {}, "body_text": '{"instances": [1.0]}'}
    found, headers, _ = send(url, case)
    assert found == status
    assert "access-control-allow-origin" not in {name.lower() for name in headers}


def test_metrics_have_bounded_labels(url):
    for number in range(5):
        predict(url, {"instances": [1.0]}, f"unknown-{number}")
    page = ask(f"{url}/monitoring/prometheus/metrics")[1].decode()
    assert re.search(r':tensorflow:serving:request_count\{model_name="add",status="OK"\} \d', page)
    assert "unknown-" not in page
    count = re.search(r'request_count\{model_name="\(unknown\)",status="NOT_FOUND"\} (\S+)', page)
    assert float(count[1]) >= 5
    assert ":tensorflow:serving:request_latency_bucket{" in page


def test_a_stalled_client_blocks_nobody(url):
    address = url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as stalled:
        stalled.sendall(b"POST /v1/models/add:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        start = time.monotonic()
        for _ in range(20):
            assert predict(url, {"instances": [1.0]})[0] == 200
        assert time.monotonic() - start < 2
        stalled.settimeout(10)
        assert b" 504 " in stalled.recv(1000)  # after --rest_api_timeout_in_ms


def test_the_log_has_a_line_for_each_request(url, models):
    predict(url, {"instances": ["secret"]}, "add")
    wait_until(lambda: '"request_bytes": 25' in (models / "log").read_text())
    lines = [line for line in (models / "log").read_text().splitlines() if line.startswith("{")]
    line = json.loads(lines[-1])
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/models/add:predict", 400)
    assert line["request_bytes"] == 25
    assert line["milliseconds"] > 0
    ask(f"{url}/nothing")
    wait_until(lambda: '"path": "/nothing", "status": 404' in (models / "log").read_text())


def test_many_at_once(url):
    failed = []

    def work(seed):
        for index in range(20):
            number = float(seed * 100 + index)
            expected = (200, {"predictions": [number + 2] * (1 + index % 3)})
            if predict(url, {"instances": [number] * (1 + index % 3)}) != expected:
                failed.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


@contextlib.contextmanager
def case_server(folder):
    """A server of the models of the cases: TensorFlow Serving itself where TFS_URL says it is, see
    CONTRIBUTING.md."""
    if "TFS_URL" in os.environ:
        yield os.environ["TFS_URL"]
        return
    flags = ["--rest_api_enable_cors_support", "--rest_api_timeout_in_ms=2000"]
    with server("--model_config_file", folder / "models.config", *flags) as process:
        yield process.url


def test_the_cases_of_tensorflow_serving(tmp_path):
    if not CASES.exists():
        pytest.skip(f"{CASES.name} is not in {CASES.parent}: set KBA_DATA to the folder beside it")
    made = run_python(f"import runpy; runpy.run_path({str(CASES.parent / 'make_models.py')!r})", tmp_path)
    assert made.returncode == 0, made.stderr
    cases = json.loads(CASES.read_text())["cases"]
    with case_server(tmp_path) as url:
        wrong = {case["name"]: difference(case, *send(url, case)) for case in cases}
    assert {name: what for name, what in wrong.items() if what} == {}


# Versions come and go


def test_a_new_version_is_swapped_in_and_a_broken_one_refused(models, tmp_path):
    folder = tmp_path / "add"
    shutil.copytree(models / "add" / "1", folder / "1")
    answers, ended = [], threading.Event()

    def ask_on():
        while not ended.is_set():
            answers.append(predict(process.url, {"instances": [1.0]}))

    def state(version):
        found = ask(f"{process.url}/v1/models/add/versions/{version}")
        return found[1]["model_version_status"][0] if found[0] == 200 else {}

    with server(folder, "--file_system_poll_wait_seconds", "0.1") as process:
        asking = threading.Thread(target=ask_on)
        asking.start()
        (folder / "2").mkdir()
        (folder / "2" / "saved_model.pb").write_bytes(b"no model")
        wait_until(lambda: state(2).get("state") == "END")
        assert state(2)["status"]["error_code"] != "OK"
        assert state(1)["state"] == "AVAILABLE"
        shutil.copytree(models / "add" / "00000002", tmp_path / "new")
        (tmp_path / "new").rename(folder / "3")
        wait_until(lambda: state(3).get("state") == "AVAILABLE")
        wait_until(lambda: state(1).get("state") == "END")
        ended.set()
        asking.join()
        assert predict(process.url, {"instances": [1.0]}) == (200, {"predictions": [3.0]})
    assert {status for status, _ in answers} == {200}
    values = [found["predictions"][0] for _, found in answers]
    assert values == sorted(values)  # first 2.0, then 3.0
    assert values[0] == 2.0


def test_a_new_configuration(models, tmp_path):
    config = tmp_path / "models.config"
    text = "model_config_list {{ config {{ name: '{}' base_path: '{}' }} }}"
    config.write_text(text.format("one", models / "add"))
    waits = ["--model_config_file_poll_wait_seconds", "0.1", "--file_system_poll_wait_seconds", "0.1"]
    with server("--model_config_file", config, *waits) as process:
        config.write_text("model_config_list { wrong }")
        time.sleep(0.5)
        assert predict(process.url, {"instances": [1.0]}, "one")[0] == 200
        config.write_text(text.format("two", models / "add"))
        wait_until(lambda: predict(process.url, {"instances": [1.0]}, "two")[0] == 200)
        wait_until(lambda: predict(process.url, {"instances": [1.0]}, "one")[0] == 404)


def test_sigterm_loses_nothing(models):
    answers, ended = [], threading.Event()

    def ask_on():
        while not ended.is_set():
            answers.append(predict(process.url, {"instances": TEXTS}, "reviews")[0])

    with server(models / "reviews", "--shutdown-delay-seconds", "0.5") as process:
        threads = [threading.Thread(target=ask_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) > 20)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: ask(f"{process.url}/readyz")[0] == 503, 5)
        assert process.wait(20) == 0
        ended.set()
        for thread in threads:
            thread.join()
    assert set(answers) <= {200, 0}  # 0: the connection was not taken any more
    assert answers.count(200) > 20


def test_a_token(models, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "session").write_text("intra_op_parallelism_threads: 1 use_per_session_threads: true")
    flags = ["--token-file", tmp_path / "token", "--tensorflow_session_config_file", tmp_path / "session"]
    flags += [
        "--model_name",
        "add",
        "--model_base_path",
        models / "add",
        "--rest_api_enable_cors_support=true",
    ]
    with server(*flags, "--enable_batching=false") as process:
        assert ask(f"{process.url}/healthz")[0] == 200
        assert predict(process.url, {"instances": [1.0]})[0] == 401
        assert ask(f"{process.url}/monitoring/prometheus/metrics")[0] == 401
        assert predict(process.url, {"instances": [1.0]}, Authorization="Bearer wrong")[0] == 401
        assert predict(process.url, {"instances": [1.0]}, Authorization="bearer secret")[0] == 200
        case = {"method": "OPTIONS", "path": "/v1/models/add:predict", "headers": {"Origin": "https://x"}}
        status, headers, _ = send(process.url, case)
        assert (status, headers["access-control-allow-headers"]) == (200, "Content-Type, Authorization")
        client = kba.serving.Client(f"{process.url}/v1/models/add", token="secret")
        assert client.predict([1.0]) == [{"y": 3.0}]


def test_a_broken_newest_version_at_the_start(models, tmp_path):
    shutil.copytree(models / "add" / "1", tmp_path / "add" / "1")
    (tmp_path / "add" / "2").mkdir()
    shutil.copytree(models / "reviews" / "1", tmp_path / "add" / "3")
    (tmp_path / "add" / "3" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no records" * 99)
    with server(tmp_path / "add", log=tmp_path / "log") as process:
        found = ask(f"{process.url}/v1/models/add")[1]["model_version_status"]
        assert [version["state"] for version in found] == ["END", "END", "AVAILABLE"]
        assert predict(process.url, {"instances": [1.0]}) == (200, {"predictions": [2.0]})
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert (tmp_path / "log").read_text().count("was refused") == 2


# What cannot be served


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "is no folder: give the folder that keras-bert export has written to"),
        (lambda path: path.mkdir(), "has no version of a model"),
        (lambda path: add_model(path, 1), "is a SavedModel, but not a version of a model"),
        (
            lambda path: (path / "1").mkdir(parents=True),
            r"model m cannot be served: .*: .*(no|not).*(file|find|exist)",
        ),
    ],
)
def test_folders_that_cannot_be_served(keras_bert, tmp_path, make, message):
    make(tmp_path / "m")
    code, _, err = keras_bert("serve", tmp_path / "m", "--port", free_port())
    assert code == 1
    assert re.search(message, err, re.IGNORECASE), err


def test_wrong_arguments(keras_bert, tmp_path, run_folder, models):
    assert "is a run folder of a training: keras-bert export" in keras_bert("serve", run_folder)[2]
    assert "give the folders of models, or --model-config-file" in keras_bert("serve")[2]
    assert "give the folders of models, or" in keras_bert("serve", models / "add", "--model-name", "a")[2]
    (tmp_path / "monitoring").write_text('prometheus_config { enable: true path: "metrics" }')
    flags = ["--monitoring-config-file", tmp_path / "monitoring"]
    assert "path is 'metrics': it must start with /" in keras_bert("serve", models / "add", *flags)[2]
    assert keras_bert("serve", models / "add", "--port", "99999")[0] == 2
    for text, message in (
        ("model_config_list { config { name: 'a' } }", "each config must have a name and a base_path"),
        ("model_config_list { config { nmae: 'a' } }", "m.config: 1:30 : .*nmae.*ModelServerConfig as text"),
        ("", "there is no model_config_list"),
        ("model_config_list { config { name: 'a' base_path: '/x' model_platform: 'b' } }", "only tensorflow"),
        (
            "model_config_list { config { name: 'a' base_path: '/x' } config { name: 'a' base_path: '/y' } }",
            "two models of the name a",
        ),
    ):
        (tmp_path / "m.config").write_text(text)
        code, _, err = keras_bert("serve", "--model-config-file", tmp_path / "m.config")
        assert code == 1
        assert re.search(message, err), err
    for text, message in (
        ("max_batch_size { value: 0 }", "max_batch_size is 0: give at least 1"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "must rise, and end with max_batch_size"),
    ):
        (tmp_path / "batching").write_text(text)
        code, _, err = keras_bert(
            "serve", models / "add", "--batching-parameters-file", tmp_path / "batching"
        )
        assert code == 1
        assert message in err
    (tmp_path / "session").write_text("intra_threads: 1")
    flags = ["--tensorflow-session-config-file", tmp_path / "session"]
    assert "must be a ConfigProto as text" in keras_bert("serve", models / "add", *flags)[2]
    (tmp_path / "token").write_text("\n")
    assert "token is empty" in keras_bert("serve", models / "add", "--token-file", tmp_path / "token")[2]
    shutil.copytree(models / "add", tmp_path / "add")
    assert "two models are called add" in keras_bert("serve", models / "add", tmp_path / "add")[2]


def test_a_port_that_is_taken(models, keras_bert):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = keras_bert("serve", models / "add", "--port", taken.getsockname()[1])
    assert code == 1
    assert "Address already in use. Choose another --host or --port" in err
