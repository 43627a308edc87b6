import json
import re
from pathlib import Path

import pytest
import yaml
from conftest import not_served
from serving import save_model

import keras_bert_app as kba
from keras_bert_app import inspecting, serving_files
from keras_bert_app.serving import configuration


@pytest.fixture(scope="module")
def exported(tmp_path_factory, run_folder):
    folder = tmp_path_factory.mktemp("saved_models") / "reviews"
    kba.export(run_folder, folder)
    return folder


def test_a_model_of_ours(exported, run_folder):
    found = kba.inspect(exported)
    assert found["name"] == "reviews"
    assert found["version"] == 1
    assert found["task"] == "text-classification"
    assert found["labels"] == ["negative", "positive"]
    assert found["signatures"]["serving_default"] == {
        "inputs": {"text": ["string", [None]]},
        "outputs": {
            "classes": ["string", [None, 2]],
            "label": ["string", [None]],
            "probabilities": ["float32", [None, 2]],
            "score": ["float32", [None]],
        },
    }
    assert found["signatures"]["classify"]["inputs"] == {"inputs": ["string", [None]]}
    assert found["signatures"]["ids"]["inputs"].keys() == {
        "input_word_ids",
        "input_mask",
        "input_type_ids",
    }
    assert found["text_operations"] == ["FastBertNormalize", "FastWordpieceTokenizeWithOffsets"]
    assert found["not_served"] == []
    assert found["warm_up"] == 6  # two for each signature
    assert found["parameters"] == kba.load(run_folder).model.count_params()
    assert found["bytes"] > 4 * found["parameters"]


def test_the_command_it_shows_is_a_request(exported, keras_bert):
    code, out, _ = keras_bert("inspect", exported)
    assert code == 0
    assert "gives  probabilities    float32  (batch, 2)" in out
    assert "runs in TensorFlow Serving 2.12 and newer: yes" in out
    assert f"keras-bert serve {exported}" in out
    (body,) = re.findall("curl -d '(.*)' http://localhost:8501/v1/models/reviews:predict", out)
    assert json.loads(body) == {"instances": ["A warm and funny film with a brilliant cast."]}
    code, out, _ = keras_bert("inspect", exported / "1", "--json")
    assert json.loads(out)["request"] == json.loads(body)


def test_a_model_of_somebody_else(tmp_path):
    import tensorflow as tf

    signature = [tf.TensorSpec([None, 2], tf.int32, name="i"), tf.TensorSpec(None, tf.float32, name="f")]

    @tf.function(input_signature=signature)
    def both(i, f):
        return {"y": tf.py_function(lambda x: x, [f], tf.float32), "z": tf.reduce_sum(i)}

    path = save_model(tmp_path / "other", serving_default=both)
    found = inspecting.inspect(path)
    assert (found["name"], found["version"], found["task"], found["warm_up"]) == ("other", None, None, 0)
    assert found["signatures"]["serving_default"]["inputs"] == {
        "i": ["int32", [None, 2]],
        "f": ["float32", None],
    }
    assert found["signatures"]["serving_default"]["outputs"]["z"] == ["int32", []]
    assert found["not_served"] == ["EagerPyFunc"] == not_served(path)
    assert found["request"] == {"instances": [{"i": [1, 1], "f": 0.5}]}
    assert "runs in TensorFlow Serving 2.12 and newer: no: EagerPyFunc" in inspecting.show(found)


def test_a_model_that_takes_nothing(tmp_path):
    import tensorflow as tf

    @tf.function(input_signature=[])
    def one():
        return {"y": tf.constant(1.0)}

    found = inspecting.inspect(save_model(tmp_path / "one", serving_default=one))
    assert (found["request"], found["parameters"]) == (None, 0)
    assert "curl" not in inspecting.show(found)


def test_what_is_no_saved_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no SavedModel in .*: give the folder"):
        inspecting.inspect(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no SavedModel in .*none"):
        inspecting.inspect(tmp_path / "none")
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(ValueError, match="saved_model.pb is damaged"):
        inspecting.inspect(tmp_path)


# Files for TensorFlow Serving


def test_serving_files(tmp_path, run_folder, keras_bert):
    folder = tmp_path / "saved_models" / "reviews"
    (folder / "1").mkdir(parents=True)
    code, out, _ = keras_bert("export", run_folder, "--output", folder, "--serving-files")
    assert code == 0
    assert out.splitlines() == [str(folder / "2"), str(folder / "serving")]
    (config,) = configuration.read_models(folder / "serving" / "models.config")
    assert (config.name, config.base_path, config.labels) == (
        "reviews",
        Path("/models/reviews"),
        {"stable": 2},
    )
    assert config.policy == ("latest", 2)
    batching = configuration.read_batching(folder / "serving" / "batching.config")
    assert batching["max_batch_size"] == 32
    path = configuration.read_monitoring(folder / "serving" / "monitoring.config")
    assert path == "/monitoring/prometheus/metrics"
    service = yaml.safe_load((folder / "serving" / "compose.yaml").read_text())["services"]["serving"]
    assert service["image"].startswith("tensorflow/serving:2.")
    assert "..:/models/reviews:ro" in service["volumes"]
    manifests = list(yaml.safe_load_all((folder / "serving" / "kubernetes.yaml").read_text()))
    assert [manifest["kind"] for manifest in manifests] == ["ConfigMap", "Deployment", "Service"]
    assert "stable" in manifests[0]["data"]["models.config"]
    container = manifests[1]["spec"]["template"]["spec"]["containers"][0]
    assert container["readinessProbe"]["httpGet"]["path"] == "/v1/models/reviews"
    assert container["resources"]["limits"]["memory"] == "2Gi"
    kserve = yaml.safe_load((folder / "serving" / "kserve.yaml").read_text())
    assert kserve["spec"]["predictor"]["model"]["storageUri"] == "pvc://models/reviews"
    # Of the flags of TensorFlow Serving in them, every file is there.
    names = re.findall(r"=/config/(\S+)", " ".join(service["command"]))
    assert {*names} <= {file.name for file in (folder / "serving").iterdir()}
    assert kba.inspect(folder)["version"] == 2  # the folder is no version


def test_names_of_folders(tmp_path):
    for name, resource in (("My_movie.Reviews", "my-movie-reviews"), ("___", "model")):
        (tmp_path / name).mkdir()
        written = serving_files.write(tmp_path / name, 3)
        manifests = list(yaml.safe_load_all((written / "kubernetes.yaml").read_text()))
        assert manifests[1]["metadata"]["name"] == resource
        assert f"/models/{name}" in (written / "models.config").read_text()
    (tmp_path / 'a"b').mkdir()
    with pytest.raises(ValueError, match="name it with letters, digits"):
        serving_files.write(tmp_path / 'a"b', 3)


def test_monitoring_can_be_off(tmp_path):
    (tmp_path / "off").write_text("prometheus_config { enable: false }")
    assert configuration.read_monitoring(tmp_path / "off") is None
    (tmp_path / "off").write_text('prometheus_config { enable: true path: "/metrics" }')
    assert configuration.read_monitoring(tmp_path / "off") == "/metrics"
