import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import run_python

import keras_bert_app as kba
from keras_bert_app import task_model

TEXTS = [
    "the great film",
    "dull!",
    "the very moving plot was not bad",
    "",
    "film " * 50,
    "\u00e9\u4e2d \U0001f600",
]

SERVED = """
import json, sys
import numpy as np
import tensorflow as tf, tensorflow_text

signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
((name, spec),) = signature.structured_input_signature[1].items()
found = signature(text=tf.constant(json.loads(sys.argv[2])))
single = signature(text=tf.constant(json.loads(sys.argv[2])[:1]))
errors = []
for bad in ("no batch axis", [["two", "axes"]]):
    try:
        tf.raw_ops.StatefulPartitionedCall(
            args=[tf.constant(bad), *signature.captured_inputs],
            Tout=[tensor.dtype for tensor in signature.outputs], f=signature,
        )
    except tf.errors.InvalidArgumentError as error:
        errors.append(str(error))
print(json.dumps({
    "input": [name, spec.dtype.name, spec.shape.as_list()],
    "dtypes": {name: tensor.dtype.name for name, tensor in found.items()},
    "found": {name: (np.char.decode(t.numpy().astype("S")) if t.dtype == tf.string else t.numpy()).tolist()
              for name, t in found.items()},
    "single": single["probabilities"].numpy().tolist(),
    "errors": errors,
    "empty": signature(text=tf.constant([], tf.string))["probabilities"].shape.as_list(),
}))
"""


def test_a_fresh_process_answers_with_the_numbers_of_the_keras_model(tmp_path, run_folder):
    path = kba.export(run_folder, tmp_path / "reviews")
    assert path == tmp_path / "reviews" / "1"
    done = run_python(SERVED, path, json.dumps(TEXTS))
    assert done.returncode == 0, done.stderr
    served = json.loads(done.stdout)
    assert served["input"] == ["text", "string", [None]]
    assert served["dtypes"] == {
        "label": "string", "score": "float32", "classes": "string", "probabilities": "float32",
    }  # fmt: skip
    model = kba.load(run_folder)
    outputs = model.outputs(TEXTS)
    expected = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    np.testing.assert_allclose(served["found"]["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(served["single"], expected[:1], atol=1e-5)
    np.testing.assert_allclose(served["found"]["score"], expected.max(1), atol=1e-5)
    assert served["found"]["classes"] == [["negative", "positive"]] * len(TEXTS)
    size = sum(variable.numpy().nbytes for variable in model.model.weights)
    (data,) = (path / "variables").glob("*.data*")
    assert data.stat().st_size < 1.5 * size  # every variable once
    labels = [answer["label"] for answer in model(TEXTS[:3])]
    assert served["found"]["label"][:3] == labels == ["positive", "negative", "positive"]
    assert len(served["errors"]) == 2  # an error, not a crash, for a text without a batch axis
    assert served["empty"] == [0, 2]
    assert b"FusedBatchNormV3" in (path / "saved_model.pb").read_bytes()  # written for inference, see `lean`


def test_weights_in_bfloat16_are_written_so(tmp_path, pretrained):
    import tensorflow as tf

    sizes = {}
    for policy in ("float32", "mixed_bfloat16"):
        preprocessor, encoder = kba.from_pretrained(pretrained, sequence_length=12, dtype=policy)
        model = task_model.TaskModel(
            "text-classification", preprocessor, kba.text_classifier(encoder, 2), {"labels": ["no", "yes"]}
        )
        before = model.model.get_weights()
        path = kba.export(model, tmp_path / policy)
        (data,) = (path / "variables").glob("*.data*")
        sizes[policy] = data.stat().st_size
        served = tf.saved_model.load(path).signatures["serving_default"]
        expected = tf.nn.softmax(model.outputs(TEXTS))
        found = served(text=tf.constant(TEXTS))["probabilities"]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        for array, other in zip(before, model.model.get_weights(), strict=True):
            np.testing.assert_array_equal(array, other)  # the model itself is as it was
    assert sizes["mixed_bfloat16"] < 0.7 * sizes["float32"]


def test_versions(tmp_path, run_folder):
    model = kba.load(run_folder)
    (tmp_path / "reviews" / "00000041").mkdir(parents=True)
    (tmp_path / "reviews" / "notes").mkdir()
    assert kba.export(model, tmp_path / "reviews").name == "42"
    assert kba.export(model, tmp_path / "reviews").name == "43"
    assert sorted(p.name for p in (tmp_path / "reviews").iterdir()) == ["00000041", "42", "43", "notes"]


def test_nothing_half_written(tmp_path, run_folder, monkeypatch):
    import tensorflow.saved_model  # noqa: F401  as Keras in an export: it makes another module of that name

    def fail(module, path, **options):
        (Path(path) / "variables").mkdir(parents=True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorflow.saved_model.save", fail)
    with pytest.raises(OSError, match="cannot write .*No space left on device. Free space"):
        kba.export(run_folder, tmp_path / "reviews")
    assert list((tmp_path / "reviews").iterdir()) == []


def test_a_file_in_the_way(tmp_path, run_folder):
    (tmp_path / "reviews").write_text("")
    with pytest.raises(FileExistsError, match="reviews is a file"):
        kba.export(run_folder, tmp_path / "reviews")


# Loading


def test_folders_that_are_no_model(tmp_path, run_folder):
    with pytest.raises(FileNotFoundError, match="there is no .*none: check the path"):
        kba.load(tmp_path / "none")
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "config.json").rename(tmp_path / "config.json")
    with pytest.raises(FileNotFoundError, match="run is no fine-tuned model: there is no config.json"):
        kba.load(tmp_path / "run")
    (tmp_path / "config.json").rename(tmp_path / "run" / "config.json")
    path = tmp_path / "run" / "model.keras"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"run is damaged or no fine-tuned model: .*[^.]\. Train it again"):
        kba.load(tmp_path / "run")
    data = bytearray((run_folder / "model.keras").read_bytes())
    for place in range(100, len(data), 97):
        data[place] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match="run is damaged or no fine-tuned model"):
        kba.load(tmp_path / "run")
    shutil.copy(run_folder / "model.keras", path)
    (tmp_path / "run" / "labels.json").write_text('["a", "b", "c"]')
    with pytest.raises(ValueError, match="labels.json has 3 labels, the model 2"):
        kba.load(tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="config.json names no task"):
        kba.load(tmp_path / "run")


def test_a_full_temporary_folder_is_not_the_fault_of_the_model(run_folder, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keras.saving.load_model", fail)
    with pytest.raises(OSError, match="cannot load .*No space left on device. Free space in"):
        kba.load(run_folder)


def test_export_needs_tensorflow(tmp_path, run_folder, monkeypatch):
    monkeypatch.setattr("keras.config.backend", lambda: "jax")
    with pytest.raises(
        ValueError, match="cannot be written with the jax backend .* KERAS_BACKEND=tensorflow"
    ):
        kba.export(run_folder, tmp_path / "reviews")


def test_texts_that_cannot_be_answered(run_folder):
    model = kba.load(run_folder)
    with pytest.raises(ValueError, match="batch_size=-1"):
        model(["great"], batch_size=-1)
    with pytest.raises(ValueError, match="text 1: the text is empty"):
        model(["great", ""])
    with pytest.raises(ValueError, match="text 0: the text has 1,000,000 bytes"):
        model("x" * 1_000_000)
    assert model([]) == []
    assert model("the great film") == model(["the great film"])


def test_evaluate_names_an_unknown_label(run_folder):
    with pytest.raises(ValueError, match="row 2 has the label 'mixed'"):
        kba.load(run_folder).evaluate([("great", "positive"), ("so so", "mixed")])


def test_answers_do_not_depend_on_the_batch(run_folder):
    model = kba.load(run_folder)
    texts = [f"the {'very ' * n}great film" for n in range(20)]
    np.testing.assert_allclose(
        model.outputs(texts, batch_size=3), model.outputs(texts, batch_size=32), atol=1e-5
    )
    assert isinstance(model, task_model.TaskModel)


def test_what_tensorflow_serving_could_not_run_is_not_exported(tmp_path, run_folder):
    import tensorflow as tf

    model = kba.load(run_folder)

    class Task(type(model.task)):
        def serve(self, model, preprocessor):
            def serving_default(text):
                return {"y": tf.py_function(lambda x: x, [text], tf.string)}

            return {"serving_default": (serving_default, [tf.TensorSpec([None], tf.string, name="text")])}

    model.task = Task(labels=["negative", "positive"])
    with pytest.raises(ValueError, match="do not link EagerPyFunc: build the model .* without them"):
        kba.export(model, tmp_path / "reviews")
    assert list((tmp_path / "reviews").iterdir()) == []


def test_warm_up_requests(tmp_path, run_folder):
    from keras_bert_app import warm_up
    from keras_bert_app.serving.servable import Servable

    path = kba.export(run_folder, tmp_path / "reviews")
    found = list(warm_up.read_requests(path / warm_up.FILE))
    assert [(name, len(next(iter(arrays.values())))) for name, arrays in found] == [
        (name, rows) for name in ("serving_default", "classify", "ids") for rows in (1, 8)
    ]
    ran = []
    servable = Servable(path, warms_up=False)
    servable.signatures = {
        name: lambda arrays, name=name: ran.append(name) for name in ("serving_default", "classify", "ids")
    }
    servable._warm_up()
    assert ran == ["serving_default"] * 2 + ["classify"] * 2 + ["ids"] * 2
    servable.close()
    assert not hasattr(Servable(path), "error")  # all of them run
