import keras
import numpy as np
import pytest

import keras_bert_app as kba
from keras_bert_app.lean import lean_models
from keras_bert_app.precision import in_float32, with_narrow_weights

CONFIG = kba.BertConfig(
    vocab_size=61, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
    max_position_embeddings=32,
)  # fmt: skip
HEADS = {
    "classifier": lambda encoder: kba.text_classifier(encoder, 3),
    "tagger": lambda encoder: kba.token_classifier(encoder, 3),
    "spans": kba.span_classifier,
    "vectors": kba.sentence_encoder,
    "pretrainer": kba.pretrainer,  # which has the word embeddings a second time
    "attentions": lambda encoder: keras.Model(encoder.input, encoder.output["attentions"]),
}


def build(head, policy="mixed_bfloat16"):
    """A model with random weights of all kinds."""
    model = HEADS[head](kba.bert_encoder(CONFIG, policy, output_attentions=True))
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(random.normal(0.3, 0.3, variable.shape))
    return model


def answer(model):
    """What it returns in inference, as arrays."""
    ids = np.random.default_rng(1).integers(0, 61, (3, 7))
    given = {name: ids % 2 if "type" in name else ids for name in model.input}
    given |= {"input_mask": (np.arange(7) < [[7], [4], [6]]).astype("int32")}
    given |= {name: ids[:, :2] % 4 for name in model.input if "positions" in name}
    with lean_models():
        found = keras.tree.flatten(model(given, training=False))
    return [keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")) for tensor in found]


@pytest.mark.parametrize("head", HEADS)
def test_narrow_weights_answer_the_same(head):
    model = build(head)
    before = [np.array(variable) for variable in model.weights]
    found = with_narrow_weights(model)
    wide = {v.path for v in found.weights if keras.backend.standardize_dtype(v.dtype) == "float32"}
    assert not [path for path in wide if "layer_" in path or "embeddings" in path]
    for array, other in zip(answer(found), answer(model), strict=True):
        np.testing.assert_array_equal(array, other)
    for array, variable in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(array, variable)  # the model itself is as it was
    again = in_float32(found)
    assert {layer.compute_dtype for layer in again.layers} == {"float32"}
    for array, other in zip(answer(again), answer(model), strict=True):
        assert np.abs(array - other).mean() < 0.05 * max(np.abs(other).mean(), 0.1)


@pytest.mark.parametrize("policy", ["float32", "bfloat16"])
def test_a_model_that_has_them_is_left_as_it_is(policy):
    model = build("tagger", policy)
    assert with_narrow_weights(model) is model


def test_what_cannot_be_made_anew_is_left_as_it_is():
    class Mine(keras.layers.Layer):
        def __init__(self, *sizes, **kwargs):
            super().__init__(**kwargs)

        def call(self, x):
            return x

    model = build("classifier")
    mine = keras.Model(model.input, Mine(1, 2)(model.output))
    assert with_narrow_weights(mine) is mine
    kba.enable_lora(model, rank=2)
    assert with_narrow_weights(model) is model
    kba.merge_lora(model)
    assert with_narrow_weights(model) is not model
