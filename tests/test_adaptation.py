import re

import keras
import numpy as np
import pytest
from conftest import VOCABULARY, run_python, write_pretrained
from test_encoder import inputs

import keras_bert_app as kba
from keras_bert_app.adaptation import PROJECTIONS, enable_lora, freeze, merge_lora
from keras_bert_app.config import BertConfig
from keras_bert_app.encoder import bert_encoder, encoder_layers
from keras_bert_app.resizing import resize_vocabulary

CONFIG = BertConfig(
    vocab_size=61, hidden_size=10, num_hidden_layers=3, num_attention_heads=2, intermediate_size=37,
    max_position_embeddings=32,
)  # fmt: skip


def make_encoder(policy=None, **options):
    """An encoder with weights so large that each gradient is clearly not zero."""
    encoder = bert_encoder(CONFIG, policy, **options)
    random = np.random.default_rng(2)
    for variable in encoder.weights:
        variable.assign(random.normal(variable.path.endswith("gamma"), 0.3, variable.shape))
    return encoder


@pytest.fixture
def encoder():
    return make_encoder()


def paths(variables):
    return {variable.path for variable in variables}


def values(model):
    return {variable.path: variable.numpy() for variable in model.weights}


def run(model):
    return keras.ops.convert_to_numpy(model(inputs()))


def train(model, steps=3):
    """Trains some steps; returns the paths of the variables that changed."""
    before = values(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    eager = keras.config.backend() != "jax"  # quicker for a few steps
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=eager)
    for _ in range(steps):
        model.train_on_batch(inputs(), np.array([0, 4, 2]))
    return {path for path, value in values(model).items() if (value != before[path]).any()}


# A key's bias shifts all scores of a query alike: its gradient is zero but for rounding.
def without_key_bias(found):
    return {path for path in found if not path.endswith("key/bias")}


# freeze


@pytest.mark.parametrize(("num_layers", "embeddings"), [(0, True), (2, True), (1, False), (3, True)])
def test_freeze(encoder, num_layers, embeddings):
    model = kba.text_classifier(encoder, 5)
    freeze(model, num_layers, embeddings)
    frozen = {f"layer_{index}" for index in range(num_layers)}
    if embeddings:
        frozen |= {"word_embeddings", "position_embeddings", "type_embeddings", "embeddings_norm"}
    expected = {path for path in paths(encoder.weights) if path.split("/")[0] not in frozen}
    assert paths(encoder.trainable_variables) == expected
    assert without_key_bias(train(model)) == without_key_bias(paths(model.trainable_variables))


def test_what_is_frozen_is_frozen_in_a_keras_file(encoder, tmp_path):
    freeze(encoder, 2)
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    assert paths(loaded.trainable_variables) == paths(encoder.trainable_variables)


@pytest.mark.parametrize("num_layers", [4, -1, 1.0, True])
def test_freeze_only_what_is_there(encoder, num_layers):
    with pytest.raises(ValueError, match=f"num_layers={num_layers}: give a whole number from 0 to 3"):
        freeze(encoder, num_layers)
    assert paths(encoder.trainable_variables) == paths(encoder.weights)


# LoRA


@pytest.mark.parametrize(
    ("projections", "count"),
    [
        (("query", "value"), 2 * (10 + 10)),
        (("key",), 10 + 10),
        (("attention_output", "intermediate", "output"), (10 + 10) + 2 * (10 + 37)),
        (tuple(PROJECTIONS), 4 * (10 + 10) + 2 * (10 + 37)),
    ],
)
def test_lora_trains_its_matrices_and_the_head_alone(encoder, projections, count):
    model = kba.text_classifier(encoder, 5)
    before = run(model)
    enable_lora(model, rank=3, projections=projections)
    np.testing.assert_array_equal(run(model), before)  # the product starts at zero
    assert sum(np.prod(v.shape) for v in encoder.trainable_variables) == 3 * 3 * count
    assert paths(model.trainable_variables) - paths(encoder.weights) == {
        "classifier/kernel", "classifier/bias",
    }  # fmt: skip
    changed = train(model)
    assert changed == paths(model.trainable_variables)
    assert all(re.search("/lora_kernel_[ab]$", path) for path in changed & paths(encoder.weights))
    assert np.abs(run(model) - before).max() > 1e-3


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_merged_lora_is_a_plain_encoder(policy, tmp_path):
    encoder = make_encoder(policy)
    model = kba.text_classifier(encoder, 5)
    plain, trainable = paths(model.weights), paths(model.trainable_variables)
    enable_lora(model, rank=3, alpha=6, projections=list(PROJECTIONS))
    train(model)
    compiled = keras.Model(model.input, model.output)
    compiled.compile(jit_compile=False)
    expected = compiled.predict(inputs(), verbose=0)
    query = encoder.get_layer("layer_1").attention.query
    a, b, kernel = (v.numpy() for v in (query.lora_kernel_a, query.lora_kernel_b, query._kernel))
    merge_lora(encoder)
    np.testing.assert_allclose(query.kernel, kernel + 2 * (a @ b), atol=1e-6)
    assert paths(model.weights) == plain
    assert paths(model.trainable_variables) == trainable
    tolerance = 1e-5 if policy == "float32" else 0.03
    np.testing.assert_allclose(run(model), expected, atol=tolerance)
    # This function was compiled with LoRA.
    np.testing.assert_allclose(compiled.predict(inputs(), verbose=0), expected, atol=tolerance)
    assert without_key_bias(train(model)) == without_key_bias(trainable)


def test_a_task_model_answers_with_its_layers_as_they_are(run_folder):
    task = kba.load(run_folder)
    texts = ["a great film", "dull"]
    before = np.array(task.outputs(texts))
    enable_lora(task.model)
    query = task.model.get_layer("layer_0").attention.query
    query.lora_kernel_b.assign(query.lora_kernel_b + 30.0)
    expected = task.model.predict_on_batch(task.task.encode(task.preprocessor, texts).inputs([0, 1]))
    found = np.array(task.outputs(texts))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - before).max() > 1e-3
    merge_lora(task.model)
    np.testing.assert_allclose(task.outputs(texts), found, atol=1e-5)


def test_an_export_after_merging_holds_no_lora(encoder, tmp_path):
    import tensorflow as tf

    model = kba.text_classifier(encoder, 5)
    enable_lora(model)
    merge_lora(model)
    model.export(str(tmp_path / "exported"), verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    assert len(exported.variables) == len(model.variables)
    assert not any("lora" in variable.name for variable in exported.variables)
    enable_lora(model)  # once more


def test_keras_files_with_lora_in_a_fresh_process(tmp_path):
    policies = {"float32": 1e-6, "mixed_bfloat16": 0.03}
    for policy in policies:
        model = kba.text_classifier(make_encoder(policy), 5)
        enable_lora(model, rank=3, alpha=5, projections=list(PROJECTIONS))
        train(model)
        model.save(tmp_path / f"{policy}.keras")
        np.save(tmp_path / f"{policy}.npy", run(model))
    code = """
import sys, keras, numpy as np
import keras_bert_app as kba
from test_encoder import inputs
for name in sys.argv[1:]:
    model = keras.saving.load_model(name + ".keras", custom_objects=kba.custom_objects(), compile=False)
    print(np.abs(np.asarray(model(inputs())) - np.load(name + ".npy")).max())
    assert not any("lora" in variable.path for variable in model.weights)
"""
    done = run_python(code, *[tmp_path / policy for policy in policies])
    for difference, tolerance in zip(done.stdout.split(), policies.values(), strict=True):
        assert float(difference) <= tolerance, done.stderr


def test_lora_thaws_what_was_frozen_and_works_with_rematerialize():
    model = kba.text_classifier(make_encoder(rematerialize=True), 5)
    freeze(model, 2)
    enable_lora(model, rank=3)
    changed = train(model)
    assert changed == paths(model.trainable_variables)
    assert {path.split("/")[0] for path in changed} == {"layer_0", "layer_1", "layer_2", "classifier"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank=0: give a whole number of at least 1"),
        ({"rank": 2.0}, "rank=2.0: give a whole number"),
        ({"alpha": 0}, "alpha=0: give a number above 0"),
        ({"alpha": True}, "alpha=True: give a number"),
        (
            {"projections": ("query", "wrong")},
            r"projections=\('query', 'wrong'\): give a tuple of names of query",
        ),
        ({"projections": "query"}, "projections='query': give a tuple"),
        ({"projections": ()}, r"projections=\(\): give a tuple"),
    ],
)
def test_impossible_lora(encoder, arguments, message):
    with pytest.raises(ValueError, match=message):
        enable_lora(encoder, **arguments)
    assert not any("lora" in path for path in paths(encoder.weights))


def test_lora_once(encoder):
    with pytest.raises(ValueError, match="LoRA is not active in this model"):
        merge_lora(encoder)
    enable_lora(encoder)
    with pytest.raises(ValueError, match="LoRA is active in this model: call merge_lora first"):
        enable_lora(encoder)


@pytest.mark.parametrize("function", [freeze, enable_lora, merge_lora])
def test_no_bert(function):
    given = keras.Input((7,))
    model = keras.Model(given, keras.layers.Dense(3)(given))
    with pytest.raises(
        ValueError, match="the model has no layer word_embeddings, .*layer_0: give an encoder"
    ):
        function(model)


BACKEND = """
import os, sys
import keras, numpy as np
from test_encoder import inputs
from keras_bert_app.adaptation import enable_lora, freeze, merge_lora
from test_adaptation import kba, make_encoder, paths, run, train

assert keras.config.backend() == os.environ["KERAS_BACKEND"]
model = kba.text_classifier(make_encoder("float32"), 5)
plain = paths(model.weights)
enable_lora(model, rank=3, alpha=5)
assert train(model) == paths(model.trainable_variables)
expected = run(model)
merge_lora(model)
np.testing.assert_allclose(run(model), expected, atol=1e-5)
assert paths(model.weights) == paths(model.trainable_variables) == plain
freeze(model, 3)
assert {path.split("/")[0] for path in paths(model.trainable_variables)} == {"pooler", "classifier"}
print("same")
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.slow)])
def test_other_backends(backend):
    pytest.importorskip(backend, reason=f"the package {backend} is not installed")
    done = run_python(BACKEND, KERAS_BACKEND=backend)
    assert done.stdout.strip() == "same", done.stderr


# resize_vocabulary


@pytest.fixture
def tight(tmp_path):
    """An encoder with one row for each token."""
    from oracle import random_tensors

    size = len(VOCABULARY)
    folder = write_pretrained(tmp_path / "tight", random_tensors(vocabulary=size), vocab_size=size)
    return kba.from_pretrained(folder, sequence_length=9)


def test_resize_vocabulary(tight):
    preprocessor, encoder = tight
    known = preprocessor.tokenizer.vocabulary_size
    wider, larger = resize_vocabulary(preprocessor, encoder, ["[ENT]", "covid", "##itis"])
    assert wider.tokenizer.vocabulary == (*preprocessor.tokenizer.vocabulary, "[ENT]", "covid", "##itis")
    assert wider.sequence_length == 9
    assert preprocessor.tokenizer.vocabulary_size == known
    ids = wider.tokenizer(["The [ENT] was covid", "[ent] filmitis"]).to_list()
    of = wider.tokenizer.token_to_id
    assert ids[0] == [of("the"), known, of("was"), known + 1]
    assert ids[1] == [*map(of, ("[UNK]", "[UNK]", "[UNK]", "film")), known + 2]  # not in these letters
    for old, new in zip(encoder.weights, larger.weights, strict=True):
        assert old.path == new.path
        if old.path != "word_embeddings/embeddings":
            np.testing.assert_array_equal(old, new)
    old, new = (e.get_layer("word_embeddings").embeddings.numpy() for e in (encoder, larger))
    np.testing.assert_array_equal(new[:known], old)
    assert new.shape == (known + 3, 10)
    np.testing.assert_allclose(new[known:], np.tile(old.mean(axis=0), (3, 1)), atol=1e-6)
    texts = ["A great film!", "it was dull"]
    np.testing.assert_array_equal(
        encoder(preprocessor(texts))["sequence_output"], larger(wider(texts))["sequence_output"]
    )
    assert np.isfinite(larger(wider(["[ENT] covid"]))["pooled_output"]).all()


def test_spare_rows_are_used_first(pretrained):
    preprocessor, encoder = kba.from_pretrained(pretrained)
    known = preprocessor.tokenizer.vocabulary_size  # 54 tokens, 61 rows
    assert (known, encoder.get_layer("word_embeddings").input_dim) == (54, 61)
    for number, rows in ((2, 61), (9, 63)):
        tokens = [f"new{index}" for index in range(number)]
        _, larger = resize_vocabulary(preprocessor, encoder, tokens)
        old, new = (e.get_layer("word_embeddings").embeddings.numpy() for e in (encoder, larger))
        assert len(new) == rows
        np.testing.assert_array_equal(new[:known], old[:known])
        np.testing.assert_allclose(
            new[known : known + number], np.tile(old[:known].mean(axis=0), (number, 1)), atol=1e-6
        )
        np.testing.assert_array_equal(new[known + number : 61], old[known + number :])


def test_options_are_kept(tight):
    preprocessor, _ = tight
    tokenizer = kba.BertTokenizer(
        list(preprocessor.tokenizer.vocabulary), lowercase=False, strip_accents=True,
        max_input_chars_per_word=50, special_tokens=("[MASK]",),
    )  # fmt: skip
    given = kba.BertPreprocessor(tokenizer, 11, "max_length", "head_tail", 4)
    source = bert_encoder(CONFIG, "mixed_bfloat16", output_attentions=True, rematerialize=True)
    freeze(source, 2)
    source.get_layer("layer_2").attention.key.trainable = False
    wider, larger = resize_vocabulary(given, source, ["[ENT]", "Covid"])
    found = wider.get_config()
    for name in ("sequence_length", "padding", "truncation", "pad_to_multiple_of"):
        assert found[name] == given.get_config()[name]
    options = wider.tokenizer.get_config()
    before = tokenizer.get_config()
    assert options["special_tokens"] == ["[MASK]", "[ENT]"]
    for name in ("lowercase", "strip_accents", "max_input_chars_per_word"):
        assert options[name] == before[name]
    assert paths(larger.trainable_variables) == paths(source.trainable_variables)
    for name, layer in encoder_layers(larger).items():
        assert layer.trainable == source.get_layer(name).trainable
        assert layer.dtype_policy == source.get_layer(name).dtype_policy
    assert len(larger(inputs())["attentions"]) == 3
    assert larger.get_layer("layer_0").rematerialize


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], r"new_tokens=\[\]: give a list of tokens"),
        ("covid", "new_tokens='covid': give a list of tokens"),
        (["covid", " "], "token 1 of new_tokens is ' ': give a string"),
        (["covid", 7], "token 1 of new_tokens is 7: give a string"),
        (["film"], "'film' is twice in new_tokens, or in the vocabulary already"),
        (["covid", "covid"], "'covid' is twice in new_tokens"),
        (["[MASK]"], r"'\[MASK\]' is twice in new_tokens, or in the vocabulary already"),
        (["covid", "Covid"], "'Covid' would never be found in a text"),
        (["new york"], "'new york' would never be found in a text"),
        (["e-mail"], "'e-mail' would never be found in a text"),
        (["<user>"], "'<user>' would never be found in a text"),
        (["##"], "'##' would never be found in a text"),
        (["##Itis"], "'##Itis' would never be found in a text"),
    ],
)
def test_impossible_tokens(tight, tokens, message):
    with pytest.raises(ValueError, match=message):
        resize_vocabulary(*tight, tokens)


def test_encoders_that_cannot_be_resized(tight):
    preprocessor, encoder = tight
    with pytest.raises(ValueError, match="'text_classifier' is no encoder: resize it before a head"):
        resize_vocabulary(preprocessor, kba.text_classifier(encoder, 5), ["covid"])
    small = bert_encoder(BertConfig(53, 10, 1, 2, 7))
    with pytest.raises(ValueError, match="the vocabulary has 54 tokens, the encoder rows for 53"):
        resize_vocabulary(preprocessor, small, ["covid"])
    enable_lora(encoder)
    with pytest.raises(ValueError, match="LoRA is active in this encoder: call merge_lora first"):
        resize_vocabulary(preprocessor, encoder, ["covid"])
