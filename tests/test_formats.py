import importlib.util
import json
import re
import shutil

import keras
import numpy as np
import pytest
from conftest import VOCABULARY, reviews, run_python, write_trainable

import keras_bert_app as kba
from keras_bert_app import formats, runtimes
from keras_bert_app.task_model import TaskModel

TEXTS = ["the great film", "dull!", "the very moving plot was not bad", "", "film " * 50]
FORMATS = [
    pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed"))
    for name, (_, modules) in runtimes.FORMATS.items()
    for missing in [[m for m in modules if importlib.util.find_spec(m) is None]]
]
ONE = FORMATS[1]  # the one that the tests of what all have in common use


def exported(model, folder, *arguments, **options):
    """Path of a model that was written, and what its check says."""
    path = kba.export(model, folder, *arguments, **options)
    return path, json.loads((path / "config.json").read_text())["check"]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("quantize", [None, pytest.param("float16", marks=pytest.mark.slow), "int8"])
def test_a_model_answers_as_keras(tmp_path, run_folder, format, quantize):
    path, check = exported(run_folder, tmp_path / "m", format, quantize, data=reviews(70))
    model, loaded = kba.load(run_folder), kba.load(path)
    found, expected = loaded.outputs(TEXTS), model.outputs(TEXTS)
    np.testing.assert_allclose(found, expected, atol={None: 1e-5, "float16": 0.02, "int8": 0.5}[quantize])
    assert [a["label"] for a in loaded(TEXTS[:3])] == ["positive", "negative", "positive"]
    assert check["difference"] <= {None: 1e-5, "float16": 0.02, "int8": 0.5}[quantize]
    assert check["float32_bytes"] == 4 * model.model.count_params()
    assert check["bytes"] == sum(f.stat().st_size for f in path.iterdir() if f.name.startswith("model."))
    assert check["metric"] == "accuracy"
    assert check["before"] == check["after"] == model.evaluate(reviews(70))["accuracy"] > 0.9
    assert {file.name for file in path.iterdir()} >= {"tokenizer.json", "labels.json", "config.json"}
    assert not [file for file in path.iterdir() if file.name.startswith("whole")]


@pytest.mark.parametrize("format", [FORMATS[2]])
def test_openvino_quantizes_activations_to_the_ranges_of_data(tmp_path, run_folder, format):
    import openvino

    found = {}
    for name, data in (("with", iter(reviews(70))), ("without", None)):
        path, check = exported(run_folder, tmp_path / name, format, "int8", data=data)
        operations = openvino.Core().read_model(path / "model.xml").get_ops()
        found[name] = sum(operation.get_type_name() == "FakeQuantize" for operation in operations)
        assert check.get("after", 1) > 0.9
    assert found["with"] > found["without"] == 0


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return kba.from_pretrained(write_trainable(tmp_path_factory.mktemp("encoder")))


@pytest.mark.parametrize("format", [ONE])
@pytest.mark.parametrize(
    ("task", "inputs"),
    [
        (kba.TokenClassification(labels=["O", "B-x", "I-x"]), ["the great film", "i loved it ! " * 20]),
        (kba.QuestionAnswering(), [("the film ?", "the great film was fun . " * 9)]),
        (kba.SentenceSimilarity(pooling="mean", normalize=True), [("a film", "the plot"), ("dull", "dull")]),
        pytest.param(kba.NextSentence(), [("a film", "the plot")], marks=pytest.mark.slow),
        pytest.param(
            kba.MultipleChoice(), [("a film", ["was great", "was bad", "and"])], marks=pytest.mark.slow
        ),
        (kba.TextClassification(labels=["a", "b"], pairs=True, stride=8), [("film", "great " * 40)]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_all_tasks(tmp_path, encoder, format, task, inputs):
    preprocessor, encoder = encoder
    model = TaskModel(task, preprocessor.replace(sequence_length=16), task.build(encoder, 0.1))
    path, check = exported(model, tmp_path / "m", format)
    assert check["difference"] < 1e-5
    for found, expected in zip(kba.load(path)(inputs), model(inputs), strict=True):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if isinstance(value, float):
                assert found[name] == pytest.approx(value, abs=1e-4)
            elif isinstance(value, str):
                assert found[name] == value


@pytest.mark.parametrize("format", FORMATS[:1])
def test_a_model_that_was_trained_in_bfloat16(tmp_path, encoder, format):
    preprocessor, _ = encoder
    folder = write_trainable(tmp_path / "pretrained")
    models = []
    for dtype in ("mixed_bfloat16", "float32"):
        task = kba.TextClassification(labels=["a", "b"])
        models.append(
            TaskModel(task, preprocessor, task.build(kba.from_pretrained(folder, dtype=dtype)[1], 0.1))
        )
    models[1].model.set_weights(models[0].model.get_weights())
    path, check = exported(models[0], tmp_path / "m", format)
    np.testing.assert_allclose(kba.load(path).outputs(TEXTS), models[1].outputs(TEXTS), atol=1e-5)
    assert check["difference"] < 1e-5


@pytest.mark.parametrize("format", [ONE])
def test_int8_is_of_all_matrices_that_are_constant(tmp_path, format):
    import onnx

    folder, counts = write_trainable(tmp_path / "pretrained", positions=160), {}
    for name, task in (("plain", kba.TextClassification(labels=["a", "b"])), ("masked", kba.FillMask())):
        for with_lora in (False, True):
            preprocessor, encoder = kba.from_pretrained(folder)
            masked = name == "masked"
            model = task.pretrained(kba.pretrainer(encoder)) if masked else task.build(encoder, 0.1)
            if with_lora:
                kba.enable_lora(model, rank=2)
            path, _ = exported(
                TaskModel(task, preprocessor, model), tmp_path / f"{name} {with_lora}", format, "int8"
            )
            nodes = onnx.load(path / "model.onnx").graph.node
            counts[name, with_lora] = sum(node.op_type == "MatMulInteger" for node in nodes)
            assert "Transpose" not in {node.op_type for node in nodes if node.input[0].startswith("matrix_")}
    # Of a block six, the pooler and the head; or what is before the table of words, and the table.
    assert counts["plain", False] == counts["plain", True] == 8
    assert counts["masked", False] == counts["masked", True] == 8


def test_padding_that_no_row_needs_is_cut():
    given = {}
    runtime = object.__new__(runtimes.Runtime)
    runtime.inputs, runtime.outputs = ["input_word_ids", "input_mask", "masked_lm_positions"], ["logits"]
    runtime.run = lambda inputs: given.update(inputs) or {"logits": inputs["input_word_ids"]}
    mask = np.array([[1, 1, 0, 0, 0], [1, 0, 1, 0, 0]])
    inputs = {"input_word_ids": mask * 7, "input_mask": mask, "masked_lm_positions": np.zeros((2, 4))}
    assert runtime.predict_on_batch(inputs).tolist() == [[7, 7, 0], [7, 0, 7]]
    assert given["input_mask"].shape == (2, 3)
    assert given["masked_lm_positions"].shape == (2, 4)


@pytest.mark.slow
@pytest.mark.parametrize("format", [ONE])
def test_masked_words(tmp_path, format):
    model = kba.load(task="fill-mask")
    path, _ = exported(model, tmp_path / "m", format)
    texts = ["It was a complete [MASK] of time.", "A [MASK] and [MASK] film."]
    for found, expected in zip(kba.load(path)(texts), model(texts), strict=True):
        for one, other in zip(found["masks"], expected["masks"], strict=True):
            assert [guess["token"] for guess in one] == [guess["token"] for guess in other]
    with pytest.raises(ValueError, match="the options of fill-mask are part of the model"):
        kba.load(path, options={"top_k": 2})


@pytest.mark.parametrize("format", [ONE])
def test_what_is_loaded(tmp_path, run_folder, format):
    path, _ = exported(run_folder, tmp_path / "m", format)
    with pytest.raises(ValueError, match="the model was exported already"):
        kba.export(kba.load(path), tmp_path / "again")
    shutil.copytree(path, tmp_path / "damaged")
    (file,) = (tmp_path / "damaged").glob("model.*")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"damaged.model\.onnx is damaged or no model of onnx: .*Export it"):
        kba.load(tmp_path / "damaged")
    (tmp_path / "damaged" / "config.json").write_text('{"format": "onnx"}')
    with pytest.raises(ValueError, match="damaged is damaged .*: export the model again"):
        kba.load(tmp_path / "damaged")


@pytest.mark.parametrize("format", [ONE])
def test_the_newest_version_is_loaded(tmp_path, run_folder, format):
    paths = [kba.export(run_folder, tmp_path / "m", format) for _ in range(2)]
    shutil.rmtree(paths[0])
    (tmp_path / "m" / "10").mkdir()
    with pytest.raises(FileNotFoundError, match="m holds no checkpoint: there is 10, 2"):
        kba.load(tmp_path / "m")
    (tmp_path / "m" / "10").rmdir()
    assert kba.load(tmp_path / "m")(TEXTS[:3]) == kba.load(paths[1])(TEXTS[:3])
    shutil.copytree(run_folder, tmp_path / "run")
    kba.export(tmp_path / "run", tmp_path / "run", format)
    assert isinstance(kba.load(tmp_path / "run").model, keras.Model)  # still the run


def test_an_onnx_model_beside_weights_of_somebody_else(tmp_path, run_folder):
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "model.onnx").write_bytes(b"of somebody else")
    assert kba.load(tmp_path / "run")(["a great film"])[0]["label"] == "positive"


@pytest.mark.parametrize("format", [ONE])
def test_a_model_that_differs_is_not_written(tmp_path, run_folder, format, monkeypatch):
    monkeypatch.setattr(
        runtimes.Runtime, "predict_on_batch", lambda self, x: np.zeros((len(x["input_mask"]), 2))
    )
    with pytest.raises(ValueError, match="differ by up to .* from those of Keras: this runtime cannot"):
        kba.export(run_folder, tmp_path / "m", format)
    assert list((tmp_path / "m").iterdir()) == []


def test_wrong_options(tmp_path, run_folder, keras_bert, monkeypatch):
    with pytest.raises(ValueError, match="format='pickle': one of tf_saved_model, litert, onnx, openvino"):
        kba.export(run_folder, tmp_path, "pickle")
    with pytest.raises(ValueError, match="quantize='int4': one of float16, int8"):
        kba.export(run_folder, tmp_path, "onnx", "int4")
    with pytest.raises(ValueError, match="a SavedModel is not quantized or measured: choose format litert"):
        kba.export(run_folder, tmp_path, quantize="int8")
    with pytest.raises(FileNotFoundError, match="^there is no file nothing.csv: check the path"):
        kba.export(run_folder, tmp_path / "m", "onnx", data="nothing.csv")
    assert list((tmp_path / "m").iterdir()) == []
    flags = ["--output", tmp_path / "m", "--format", "onnx"]
    assert "which does not take onnx" in keras_bert("export", run_folder, *flags, "--serving-files")[2]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r'not installed, .*: pip install "keras_bert_app\[litert\]"'
    ):
        kba.export(run_folder, tmp_path / "m", "litert")
    assert not (tmp_path / "m").exists() or not list((tmp_path / "m").iterdir())


@pytest.mark.parametrize("format", [FORMATS[0]])
def test_the_command_line(tmp_path, run_folder, keras_bert, format):
    rows = "".join(f"{text},{label}\n" for text, label in reviews(70))
    (tmp_path / "test.csv").write_text(f"text,label\n{rows}")
    flags = ["--output", "m", "--format", format, "--quantize", "int8", "--data", "test.csv"]
    code, out, err = keras_bert("export", run_folder, *flags)
    assert code == 0, err
    assert out.startswith("m/1\nsize ")
    assert re.search(r"accuracy    (0\.9|1\.0)\d* before, (0\.9|1\.0)\d* after: \+0\.0000", out)
    code, out, _ = keras_bert("predict", "m/1", "a great film")
    assert json.loads(out)["label"] == "positive"
    code, out, _ = keras_bert("evaluate", "m/1", "--data", "test.csv", "--json")
    assert json.loads(out)["accuracy"] > 0.9


def test_show():
    report = {"bytes": 25_000_000, "float32_bytes": 100_000_000, "difference": 0.0123}
    assert formats.show(report).splitlines() == [
        "size        25.0 MB, 25% of the weights in float32",
        "difference  0.012 at most, of the outputs from those of Keras",
    ]


# Without TensorFlow


@pytest.mark.parametrize(
    "truncation", ["longest_first", "waterfall", "only_first", "only_second", "head_tail"]
)
@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_the_python_preprocessor(tmp_path, truncation, padding):
    from keras_bert_app.checkpoints import tokenizers

    random = np.random.default_rng(0)
    words = [word for word in VOCABULARY[5:] if not word.startswith("##")] + [
        "\u00c9t\u00e9",
        "\u4e2d",
        "unknownx",
    ]
    texts = [" ".join(random.choice(words, size)) for size in (0, 1, 3, 9, 10, 11, 30, 4)]
    pairs = list(zip(texts, reversed(texts), strict=True))
    layer = kba.BertPreprocessor(
        kba.BertTokenizer(VOCABULARY), sequence_length=13, truncation=truncation, padding=padding,
        pad_to_multiple_of=4,
    )  # fmt: skip
    tokenizers.write_huggingface(layer.tokenizer, 13, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"preprocessor": layer.options}))
    python = kba.PythonPreprocessor(tmp_path)
    given = [pairs] if truncation == "only_second" else [pairs, texts]
    for inputs in given:
        expected = layer(tuple(zip(*inputs, strict=True)) if inputs is pairs else inputs)
        found = python(inputs)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].dtype == np.int32
            np.testing.assert_array_equal(found[name], value, name)
    with pytest.raises(TypeError, match="5 is no text"):
        python([5])


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no tokenizer\.json in .*: give what keras-bert"):
        kba.PythonPreprocessor(tmp_path)


@pytest.mark.parametrize("format", [ONE])
def test_without_tensorflow(tmp_path, run_folder, format):
    path = kba.export(run_folder, tmp_path / "m", format)
    code = """
import json, sys
import keras_bert_app as kba
import onnxruntime

inputs = kba.PythonPreprocessor(sys.argv[1])(["the great film", "dull!"])
session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx")
(logits,) = session.run(["logits"], inputs)
assert not {"tensorflow", "keras"} & set(sys.modules)
print(json.dumps(logits.tolist()))
"""
    done = run_python(code, path)
    assert done.returncode == 0, done.stderr
    expected = kba.load(run_folder).outputs(["the great film", "dull!"])
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-5)
