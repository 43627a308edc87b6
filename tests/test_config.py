import dataclasses
import json

import pytest
from conftest import data_file

from keras_bert_app.config import BertConfig

GOOGLE = {
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.2,
    "hidden_size": 48, "initializer_range": 0.02, "intermediate_size": 112,
    "max_position_embeddings": 64, "num_attention_heads": 4, "num_hidden_layers": 3,
    "type_vocab_size": 2, "vocab_size": 1003,
}  # fmt: skip
EXPECTED = BertConfig(
    vocab_size=1003, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=112,
    hidden_act="gelu_new", hidden_dropout_prob=0.2, max_position_embeddings=64,
)  # fmt: skip


def test_google():
    assert BertConfig.from_dict(GOOGLE) == EXPECTED


def test_google_multilingual_has_keys_that_nothing_reads():
    extra = {
        "directionality": "bidi", "pooler_fc_size": 768, "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3, "pooler_size_per_head": 128, "pooler_type": "first_token_transform",
    }  # fmt: skip
    assert BertConfig.from_dict({**GOOGLE, **extra}) == EXPECTED


def test_huggingface_gelu_is_the_exact_one():
    extra = {"model_type": "bert", "architectures": ["BertModel"], "id2label": {"0": "a"}, "use_cache": True}
    found = BertConfig.from_dict({**GOOGLE, **extra, "layer_norm_eps": 1e-5})
    assert found == dataclasses.replace(EXPECTED, hidden_act="gelu", layer_norm_eps=1e-5)


def test_model_garden():
    values = {
        "vocab_size": 1003, "hidden_size": 48, "num_layers": 3, "num_attention_heads": 4, "inner_dim": 112,
        "inner_activation": "gelu", "output_dropout": 0.2, "attention_dropout": 0.1,
        "max_sequence_length": 64, "type_vocab_size": 2, "embedding_width": 48, "norm_first": False,
        "initializer": {"class_name": "TruncatedNormal"}, "output_range": None,
    }  # fmt: skip
    assert BertConfig.from_dict(values) == EXPECTED


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
        ({"is_decoder": True}, "is_decoder=True"),
        ({"norm_first": True}, "norm_first=True"),
        ({"model_type": "roberta"}, "model_type='roberta'"),
        ({"embedding_size": 128}, "embedding_size"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"rotary_dim": 32}, "rotary_dim=32"),
        ({"hidden_act": "swish"}, "hidden_act='swish'"),
    ],
)
def test_what_changes_the_numbers_is_named(extra, named):
    with pytest.raises(ValueError, match=named):
        BertConfig.from_dict({**GOOGLE, **extra})


def test_a_feature_that_is_off_is_no_error():
    assert BertConfig.from_dict({**GOOGLE, "some_new_feature": False, "_note": "x"}) == EXPECTED


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"hidden_size": 10, "num_attention_heads": 3}, "num_attention_heads=3"),
        ({"vocab_size": 0}, "vocab_size=0"),
        ({"num_hidden_layers": 2.0}, "num_hidden_layers=2.0"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob=1.0"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps='small'"),
    ],
)
def test_impossible_values(values, named):
    with pytest.raises(ValueError, match=named):
        BertConfig(**{"vocab_size": 9, **values})


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        EXPECTED.hidden_size = 1


def test_round_trip(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(EXPECTED.to_dict()))
    assert BertConfig.from_json(path) == EXPECTED


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[]", "no JSON object"), ("{}", "no vocab_size")]
)
def test_damaged_file(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        BertConfig.from_json(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "activation"),
    [("tf1_google/bert_config.json", "gelu_new"), ("model_garden/bert_config.json", "gelu_new"),
     ("huggingface_classifier/config.json", "gelu"), ("huggingface_legacy/config.json", "gelu")],
)  # fmt: skip
def test_real_files(name, activation):
    config = BertConfig.from_json(data_file(f"checkpoints/{name}"))
    assert (config.hidden_size, config.vocab_size, config.hidden_act) == (48, 1003, activation)
