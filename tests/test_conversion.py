import formats
import numpy as np
import pytest
from conftest import reviews, write_pretrained, write_trainable
from oracle import random_tensors

import keras_bert_app as kba
from keras_bert_app import conversion

UNSAID = "ignore:this format cannot say:UserWarning"
LEFT_OUT = "ignore:.* has no place for:UserWarning"
LAYERS = ["embeddings", "layer_0", "layer_1", "layer_2", "pooled_output"]


@pytest.mark.filterwarnings(UNSAID, LEFT_OUT)
@pytest.mark.parametrize("format", ["huggingface", "tfhub", "keras_hub", "google"])
def test_every_layer_and_head_is_measured(format, tmp_path):
    folder = formats.write_google(tmp_path / "a")
    report = kba.convert(folder, tmp_path / "b", format)
    heads = ["mlm_logits"] + (["nsp_logits"] if format in ("huggingface", "google") else [])
    assert sorted(report.differences) == sorted(LAYERS + heads)
    assert report.largest <= (5e-6 if format == "tfhub" else 0)  # a SavedModel is run by itself
    assert report.left_out == (() if len(heads) == 2 else ("next_sentence",))
    lines = str(report).splitlines()
    assert lines[0] == "largest absolute difference between source and target"
    assert sum("left out: the format has no place for it" in line for line in lines) == len(report.left_out)
    assert kba.open_checkpoint(tmp_path / "b").format == format


@pytest.mark.filterwarnings(UNSAID)
def test_what_other_programs_compute_is_measured(tmp_path, pretrained):
    report = kba.convert(pretrained, tmp_path / "google", "google")
    assert report.largest == 0
    assert report.others["embeddings"] == 0
    assert 1e-5 < report.others["layer_0"] < 0.1  # the tanh form of GELU for the exact one
    assert "read here  elsewhere" in str(report)
    assert kba.convert(pretrained, tmp_path / "b", "huggingface").others == {}


def test_a_difference_beyond_the_tolerance(tmp_path, pretrained, monkeypatch):
    from keras_bert_app.checkpoints import huggingface_export

    whole = huggingface_export.write

    def damaged(model, *args):
        kernel = next(v for v in model.weights if v.path == "layer_1/output/kernel")
        before = np.asarray(kernel)
        kernel.assign(before + np.random.default_rng(0).normal(0, 1e-3, before.shape))
        whole(model, *args)
        kernel.assign(before)

    monkeypatch.setattr(huggingface_export, "write", damaged)
    with pytest.raises(ValueError, match=r"is not written: .* more than tolerance=1e-05$") as caught:
        kba.convert(pretrained, tmp_path / "out" / "b")
    assert caught.value.report.differences["layer_0"] == 0 < caught.value.report.differences["layer_1"]
    assert list((tmp_path / "out").iterdir()) == []
    assert kba.convert(pretrained, tmp_path / "b", tolerance=10).largest > 1e-5


def test_not_a_number_is_beyond_any_tolerance(tmp_path):
    tensors = random_tensors()
    tensors["encoder.layer.1.output.dense.bias"][0] = np.nan
    with pytest.raises(ValueError, match="is not written"):
        kba.convert(write_pretrained(tmp_path / "a", tensors), tmp_path / "b", tolerance=1e9)


def test_the_target_exists(tmp_path, pretrained):
    with pytest.raises(FileExistsError, match="exists: choose another folder"):
        kba.convert(pretrained, tmp_path)


@pytest.mark.filterwarnings(UNSAID)
def test_a_run_of_finetune(run_folder, tmp_path):
    report = kba.convert(run_folder, tmp_path / "classifier")
    assert (report.largest, report.left_out) == (0, ())
    texts = ["the great film", "the terrible film"]
    ours, theirs = kba.load(run_folder), kba.load(tmp_path / "classifier")
    assert (
        [a["label"] for a in theirs(texts)] == [a["label"] for a in ours(texts)] == ["positive", "negative"]
    )
    preset = kba.convert(run_folder, tmp_path / "preset", "keras_hub")
    assert preset.largest == 0
    assert kba.load(tmp_path / "preset").labels == ["negative", "positive"]


@pytest.mark.filterwarnings("ignore:the model gives all")  # so little does not teach it
def test_a_run_in_mixed_precision(tmp_path):
    rows = reviews(20)
    kba.finetune(
        "text-classification", rows, model=write_trainable(tmp_path / "bert"), output=tmp_path / "run",
        epochs=1, sequence_length=16, precision="mixed_bfloat16",
    )  # fmt: skip
    assert kba.convert(tmp_path / "run", tmp_path / "out").largest == 0


@pytest.mark.filterwarnings(UNSAID)
def test_left_out_tensors(tmp_path):
    tensors = random_tensors() | {"mine.weight": np.zeros(3, "float32")}
    folder = write_pretrained(tmp_path / "a", tensors)
    with pytest.raises(ValueError, match="no place: mine.weight"):
        kba.convert(folder, tmp_path / "b")
    assert kba.convert(folder, tmp_path / "b", ignore=["mine.*"]).largest == 0


def test_a_source_without_a_tokenizer(tmp_path, pretrained):
    (pretrained / "vocab.txt").unlink()
    kba.convert(pretrained, tmp_path / "b")
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["config.json", "model.safetensors"]
    assert len({path.stat().st_mode for path in (tmp_path / "b").iterdir()}) == 1  # who reads one reads both
    with pytest.raises(ValueError, match="a TF-Hub pair has a preprocessing model"):
        kba.convert(pretrained, tmp_path / "c", "tfhub")


def test_load_wants_a_classifier(tmp_path, pretrained):
    with pytest.raises(ValueError, match="is no fine-tuned model: its heads are none"):
        kba.load(pretrained)
    tensors = random_tensors() | {
        "classifier.weight": np.zeros((1, 10), "float32"),
        "classifier.bias": np.zeros(1, "float32"),
    }
    folder = write_pretrained(tmp_path / "one", tensors, id2label={"0": "LABEL_0"})
    (answer,) = kba.load(folder)("film")  # one output is a number
    assert answer == {"value": 0.0}


def test_the_batch_has_padding_and_types():
    config = kba.BertConfig(61, 10, 3, 2, 37, max_position_embeddings=32)
    batch = conversion.batch(config, ["input_mask", "input_type_ids", "input_word_ids"])
    assert 0 < batch["input_mask"].mean() < 1
    assert 0 < batch["input_type_ids"].mean() < 1
    assert len(np.unique(batch["input_word_ids"])) > 20


@pytest.mark.filterwarnings(UNSAID)
def test_a_saved_model_that_gives_no_numbers(tmp_path, pretrained, monkeypatch):
    given = {"pooled_output": np.full((3, 10), np.nan, "float32")}
    monkeypatch.setattr(conversion, "_graph_outputs", lambda folder, config: given)
    with pytest.raises(ValueError, match="is not written: its outputs differ .* by nan"):
        kba.convert(pretrained, tmp_path / "hub", "tfhub", tolerance=1e9)
