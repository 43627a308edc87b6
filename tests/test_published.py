import re

import pytest

from keras_bert_app import published

# keras_hub/src/models/bert/bert_presets.py
KERAS_HUB_PARAMETERS = {
    "bert_tiny_en_uncased": 4385920,
    "bert_small_en_uncased": 28763648,
    "bert_medium_en_uncased": 41373184,
    "bert_base_en_uncased": 109482240,
    "bert_base_en": 108310272,
    "bert_base_zh": 102267648,
    "bert_base_multi": 177853440,
    "bert_large_en_uncased": 335141888,
    "bert_large_en": 333579264,
}


def test_models():
    models = published.models()
    assert len(models) == 1 + 9 + 24
    names = [name for model in models for name in (model.name, *model.aliases)]
    assert len(set(names)) == len(names)
    by_name = {name: model for model in models for name in (model.name, *model.aliases)}
    for name, parameters in KERAS_HUB_PARAMETERS.items():
        assert by_name[name].num_parameters == parameters, name
    for model in models[1:]:  # the first is ours
        assert model.license == "Apache-2.0"
        assert model.hidden_size == 64 * model.num_heads
        assert model.language in ("English", "Chinese", "102 languages", "104 languages")
        google, *others = model.handles
        numbers = f"L-{model.num_layers}_H-{model.hidden_size}_A-{model.num_heads}"
        assert re.fullmatch(rf"{published.GOOGLE}20\d\d_\d\d_\d\d/[\w]*_?{numbers}.zip", google)
        assert not model.cased or "cased" in google
        assert not model.cased or "uncased" not in google
        schemes = [handle.partition("://")[0] for handle in others]
        assert schemes in (["https", "kaggle", "hf"], ["https", "hf"], ["hf"])
        for handle in others:
            if not handle.startswith("hf://google-bert/"):
                assert numbers.replace("_", "-").lower() in handle.replace("_", "-").lower()


def test_handles_of():
    assert published.handles_of("bert_base_en_uncased") == (
        "https://storage.googleapis.com/bert_models/2018_10_18/uncased_L-12_H-768_A-12.zip",
        "https://tfhub.dev/tensorflow/bert_en_uncased_L-12_H-768_A-12/4",
        "kaggle://tensorflow/bert/tensorFlow2/en-uncased-l-12-h-768-a-12/4",
        "hf://google-bert/bert-base-uncased",
    )
    assert published.handles_of("bert_small") == (
        "https://storage.googleapis.com/bert_models/2020_02_20/uncased_L-4_H-512_A-8.zip",
        "https://tfhub.dev/tensorflow/small_bert/bert_en_uncased_L-4_H-512_A-8/2",
        "kaggle://tensorflow/bert/tensorFlow2/bert-en-uncased-l-4-h-512-a-8/2",
        "hf://google/bert_uncased_L-4_H-512_A-8",
    )
    # The base model of 2018 and the one of 2020 are two
    base = published.handles_of("bert_en_uncased_L-12_H-768_A-12")
    assert base == published.handles_of("bert_base_en_uncased")
    assert published.handles_of("small_bert/bert_en_uncased_L-12_H-768_A-12") != base


def test_names_that_are_none():
    with pytest.raises(
        ValueError, match="there is no model 'bert_base_uncased': did you mean .*bert_base_en_unc"
    ):
        published.handles_of("bert_base_uncased")
    with pytest.raises(ValueError, match="there is no model 'xyz': `keras-bert models` lists them"):
        published.handles_of("xyz")


@pytest.mark.parametrize(
    ("hub", "kaggle"),
    [
        ("bert_en_uncased_L-12_H-768_A-12/4", "en-uncased-l-12-h-768-a-12/4"),
        ("bert_multi_cased_L-12_H-768_A-12/4", "multi-cased-l-12-h-768-a-12/4"),
        ("bert_en_uncased_preprocess/3", "en-uncased-preprocess/3"),
        ("small_bert/bert_en_uncased_L-2_H-128_A-2/1", "bert-en-uncased-l-2-h-128-a-2/1"),
    ],
)
def test_kaggle_handle(hub, kaggle):
    expected = f"kaggle://tensorflow/bert/tensorFlow2/{kaggle}"
    assert published.kaggle_handle(f"https://tfhub.dev/tensorflow/{hub}") == expected


@pytest.mark.parametrize(
    "handle",
    ["https://tfhub.dev/google/electra_small/2", "https://example.org/tensorflow/bert_en/1", "bert_tiny"],
)
def test_what_has_no_kaggle_handle(handle):
    assert published.kaggle_handle(handle) is None
