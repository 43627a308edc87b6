import json
import warnings

import numpy as np
import pytest
from conftest import data_file, write_pretrained
from oracle import random_tensors

import keras_bert_app as kba


def test_old_names_and_prefixes(tmp_path, pretrained):
    tensors = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
        for name, v in random_tensors().items()
    }
    tensors["bert.embeddings.position_ids"] = np.arange(32)[None]
    _, old = kba.from_pretrained(write_pretrained(tmp_path / "old", tensors))
    _, new = kba.from_pretrained(pretrained)
    for a, b in zip(old.weights, new.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_float16_weights(tmp_path, pretrained):
    halves = {name: value.astype("float16") for name, value in random_tensors().items()}
    _, encoder = kba.from_pretrained(write_pretrained(tmp_path / "half", halves))
    assert {v.dtype for v in encoder.weights if "seed" not in v.path} == {"float32"}
    np.testing.assert_array_equal(
        encoder.get_layer("pooler").kernel, halves["pooler.dense.weight"].T.astype("float32")
    )


def test_missing_pooler_is_named(tmp_path):
    tensors = {name: value for name, value in random_tensors().items() if "pooler" not in name}
    with pytest.warns(UserWarning, match=r"no pooler: pooler.dense.weight, pooler.dense.bias"):
        kba.from_pretrained(write_pretrained(tmp_path, tensors))


def test_missing_tensor(tmp_path):
    tensors = random_tensors()
    del tensors["encoder.layer.1.output.dense.bias"]
    with pytest.raises(ValueError, match="lacks tensors: encoder.layer.1.output.dense.bias"):
        kba.from_pretrained(write_pretrained(tmp_path, tensors))


def test_a_layer_too_many(tmp_path):
    with pytest.raises(ValueError, match="for which there is no place: encoder.layer.2.attention"):
        kba.from_pretrained(write_pretrained(tmp_path, num_hidden_layers=2))


def test_other_shape(tmp_path):
    with pytest.raises(
        ValueError, match=r"intermediate.dense.weight has shape \(37, 10\), the config asks for \(36, 10\)"
    ):
        kba.from_pretrained(write_pretrained(tmp_path, intermediate_size=36))


def test_truncated_file(pretrained):
    path = pretrained / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged or cut short"):
        kba.from_pretrained(pretrained)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_missing_file(pretrained, name):
    (pretrained / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        kba.from_pretrained(pretrained)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no .*none: check the path"):
        kba.from_pretrained(tmp_path / "none")


def test_vocabulary_of_another_model(tmp_path):
    tensors = random_tensors(vocabulary=51)
    with pytest.raises(ValueError, match=r"its vocabulary has 5. tokens, its config says vocab_size=51"):
        kba.from_pretrained(write_pretrained(tmp_path, tensors, vocab_size=51))


def test_sequence_length(pretrained):
    preprocessor, _ = kba.from_pretrained(pretrained, sequence_length=9)
    assert preprocessor(["film " * 30])["input_word_ids"].shape == (1, 9)
    assert kba.from_pretrained(pretrained)[0].sequence_length == 32
    with pytest.raises(ValueError, match="sequence_length=33: this encoder takes at most 32"):
        kba.from_pretrained(pretrained, sequence_length=33)
    with pytest.raises(ValueError, match="sequence_length=2"):
        kba.from_pretrained(pretrained, sequence_length=2)


def test_casing_comes_from_the_folder(pretrained):
    path = pretrained / "tokenizer_config.json"
    path.write_text('{"do_lower_case": false}')
    assert kba.from_pretrained(pretrained)[0].tokenizer.lowercase is False
    path.unlink()
    assert kba.from_pretrained(pretrained)[0].tokenizer.lowercase is True
    path.write_text('{"do_lower_case": true, "strip_accents": false}')
    assert kba.from_pretrained(pretrained)[0].tokenizer.strip_accents is False
    path.write_text('{"tokenize_chinese_chars": false}')
    with pytest.raises(ValueError, match="tokenize_chinese_chars=False is not supported"):
        kba.from_pretrained(pretrained)
    path.write_text("{")
    with pytest.raises(ValueError, match="tokenizer_config.json is not JSON"):
        kba.from_pretrained(pretrained)
    path.write_text("[]")
    with pytest.raises(ValueError, match="tokenizer_config.json holds no JSON object"):
        kba.from_pretrained(pretrained)


def test_dtype(pretrained):
    _, encoder = kba.from_pretrained(pretrained, dtype="mixed_bfloat16")
    assert encoder.output["sequence_output"].dtype == "bfloat16"


def test_every_tensor_of_minilm_is_used():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        preprocessor, encoder = kba.from_pretrained(data_file("minilm"))
    assert sum(variable.numpy().size for variable in encoder.weights) == 22_713_216
    reference = json.loads(data_file("minilm/reference.json").read_text())
    arrays = np.load(data_file("minilm/reference.npz"))
    for number, row in enumerate(reference["texts"]):
        np.testing.assert_array_equal(
            preprocessor([row["text"]])["input_word_ids"][0], arrays[f"ids_{number:02d}"]
        )
