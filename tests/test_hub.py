import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text
from conftest import VOCABULARY, data_file, run_python

import keras_bert_app as kba
from keras_bert_app import hub

NAMES = ("input_word_ids", "input_mask", "input_type_ids")
TEXTS = tf.constant(["the great film", "dull", "", "a very very moving plot"])


def named_inputs():
    return {name: keras.Input((None,), dtype="int32", name=name) for name in NAMES}


def save(folder, function, **attributes):
    """A SavedModel in TF-Hub's way: an object that is called."""
    module = tf.Module()
    for name, value in attributes.items():
        setattr(module, name, value)
    module.__call__ = function
    tf.saved_model.save(module, str(folder))
    return folder


@pytest.fixture(scope="module")
def embedding(tmp_path_factory):
    """Folder of a text embedding: strings to vectors of 5, with a table and its vocabulary file."""
    vocabulary = tmp_path_factory.mktemp("vocabulary") / "words.txt"
    vocabulary.write_text("\n".join(VOCABULARY))
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
        ), 3,
    )  # fmt: skip
    weights = tf.Variable(np.random.default_rng(0).normal(size=(len(VOCABULARY) + 3, 5)), dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def embed(text):
        words = tf_text.WhitespaceTokenizer().tokenize(text)
        return tf.reduce_sum(
            tf.ragged.map_flat_values(lambda w: tf.gather(weights, table.lookup(w)), words), 1
        )

    return save(tmp_path_factory.mktemp("embedding"), embed, table=table, weights=weights)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Folder of an encoder: a dict to a dict with a list in it, and with `training`."""
    weights = tf.Variable(np.random.default_rng(1).normal(size=(61, 5)), dtype=tf.float32)

    @tf.function
    def encode(inputs, training=False):
        x = tf.gather(weights, inputs["input_word_ids"] + inputs["input_type_ids"])
        x = x * tf.cast(inputs["input_mask"], tf.float32)[..., None]
        x = tf.nn.dropout(x, 0.5) if training else x
        pooled = tf.reduce_sum(x, 1)
        return {
            "default": pooled, "pooled_output": pooled, "sequence_output": x, "encoder_outputs": [x / 2, x],
        }  # fmt: skip

    for training in (True, False):
        encode.get_concrete_function(
            {name: tf.TensorSpec([None, None], tf.int32, name) for name in NAMES}, training=training
        )
    return save(tmp_path_factory.mktemp("encoder"), encode, weights=weights)


def test_a_text_embedding(embedding):
    layer = kba.hub_layer(embedding, name="embedding")
    assert layer.name == "embedding"
    expected = tf.saved_model.load(str(embedding))(TEXTS)
    np.testing.assert_array_equal(layer(TEXTS), expected)
    text = keras.Input((), dtype="string")
    vectors = layer(text)
    assert (vectors.shape, vectors.dtype) == ((None, 5), "float32")
    model = keras.Model(text, keras.layers.Dense(2)(vectors))
    assert len(model.trainable_weights) == 2
    assert len(layer.weights) == len(layer.non_trainable_weights) == 1
    model.compile("adam", "mse")
    before = layer.get_weights()
    history = model.fit(TEXTS, tf.ones((4, 2)), epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    np.testing.assert_array_equal(layer.get_weights(), before)
    assert model.predict(TEXTS, verbose=0).shape == (4, 2)


def test_an_encoder(encoder):
    layer, inputs = kba.hub_layer(encoder), named_inputs()
    outputs = layer(inputs)
    assert outputs["pooled_output"].shape == (None, 5)
    assert [x.shape for x in outputs["encoder_outputs"]] == [(None, None, 5)] * 2
    model = keras.Model(inputs, outputs)
    ids = {name: tf.ones((3, 7), tf.int32) for name in NAMES}
    expected = tf.saved_model.load(str(encoder))(ids)
    for found in (model(ids), model(ids, training=True), layer(ids)):  # no dropout
        tf.nest.map_structure(np.testing.assert_array_equal, found, expected)


def test_a_keras_file_names_the_saved_model_and_does_not_trust_it(tmp_path, embedding):
    text = keras.Input((), dtype="string")
    model = keras.Model(text, kba.hub_layer(embedding)(text))
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="potential risk of arbitrary code execution .*safe_mode=False"):
        keras.saving.load_model(tmp_path / "model.keras")
    code = """
import sys, keras, tensorflow as tf, tensorflow_text
model = keras.saving.load_model(sys.argv[1], safe_mode=False)
model.export(sys.argv[2], verbose=False)
print(model(tf.constant(["the great film"])).numpy().tolist())
"""
    done = run_python(code, tmp_path / "model.keras", tmp_path / "exported")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), model(TEXTS[:1]), atol=1e-6)
    served = tf.saved_model.load(str(tmp_path / "exported")).signatures["serving_default"]
    np.testing.assert_allclose(served(TEXTS)["output_0"], model(TEXTS), atol=1e-6)
    assert [path.name for path in (tmp_path / "exported" / "assets").iterdir()] == ["words.txt"]


# SavedModels that cannot be called


def save_signatures(folder, **signatures):
    module = tf.Module()
    module.weights = tf.Variable(tf.eye(3))
    tf.saved_model.save(module, str(folder), {name: make(module) for name, make in signatures.items()})
    return folder


def one_input(module):
    spec = tf.TensorSpec([None, 3], tf.float32, "x")
    return tf.function(lambda x: {"y": x @ module.weights}, input_signature=[spec])


def two_inputs(module):
    specs = [tf.TensorSpec([None, 3], tf.float32, name) for name in ("a", "b")]
    return tf.function(lambda a, b: {"y": a @ module.weights - b}, input_signature=specs)


def test_a_signature_of_one_input(tmp_path):
    layer = kba.hub_layer(save_signatures(tmp_path / "model", serving_default=one_input, other=two_inputs))
    x = keras.Input((3,))
    model = keras.Model(x, layer(x)["y"])
    np.testing.assert_array_equal(model(tf.ones((2, 3))), np.ones((2, 3)))


def test_a_signature_of_several_inputs(tmp_path):
    layer = kba.hub_layer(save_signatures(tmp_path / "model", serving_default=two_inputs))
    inputs = {name: keras.Input((3,), name=name) for name in ("a", "b")}
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="safe_mode=False"):
        keras.saving.load_model(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=False)
    values = {"a": 3 * tf.ones((2, 3)), "b": tf.ones((2, 3))}
    for found in (model, again):
        np.testing.assert_array_equal(found(values)["y"], 2 * np.ones((2, 3)))


def test_a_model_that_keras_exported(tmp_path):
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Dense(5)(x))
    model.export(tmp_path / "model", verbose=False)
    found = kba.hub_layer(tmp_path / "model")(tf.ones((2, 3)))
    np.testing.assert_allclose(found["output_0"], model(tf.ones((2, 3))), atol=1e-6)


def test_nothing_to_call(tmp_path):
    folder = save_signatures(tmp_path / "model", other=one_input, another=two_inputs)
    with pytest.raises(ValueError, match="no signature serving_default. .*: another, other; .*: weights"):
        kba.hub_layer(folder)


# Errors


def test_folders_that_are_no_saved_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no SavedModel, .*: give the folder of a SavedModel"):
        kba.hub_layer(tmp_path)
    for name in ("encoder", "preprocess"):
        save_signatures(tmp_path / name, serving_default=one_input)
    with pytest.raises(FileNotFoundError, match=r"no saved_model.pb: give .*/encoder or .*/preprocess"):
        kba.hub_layer(tmp_path)
    path = tmp_path / "encoder" / "saved_model.pb"
    for content in (path.read_bytes()[:-7], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"encoder/saved_model.pb is damaged, .*: get it again"):
            kba.hub_layer(tmp_path / "encoder")


def test_a_saved_model_with_something_missing(tmp_path):
    folder = save_signatures(tmp_path / "model", serving_default=one_input)
    path = folder / "saved_model.pb"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"MatMul", b"MatMux"))
    with pytest.raises(ValueError, match="model cannot be loaded: .*'MatMux'.* import the package"):
        kba.hub_layer(folder)
    path.write_bytes(content)
    (data,) = (folder / "variables").glob("*.data*")
    data.write_bytes(data.read_bytes()[:5])
    with pytest.raises(ValueError, match="model cannot be loaded: .*Get it again"):
        kba.hub_layer(folder)


def test_another_backend(tmp_path, monkeypatch):
    monkeypatch.setattr("keras.config.backend", lambda: "jax")
    with pytest.raises(ValueError, match="cannot be run with the jax backend .* KERAS_BACKEND=tensorflow"):
        kba.hub_layer(tmp_path)


def test_the_handle_is_downloaded(embedding, monkeypatch):
    asked = []

    def download(*args, **options):
        asked.append((args, options))
        return embedding

    monkeypatch.setattr(hub.downloads, "download", download)
    layer = kba.hub_layer("https://tfhub.dev/google/nnlm/2", sha256="f" * 64)
    assert layer(TEXTS).shape == (4, 5)
    assert asked == [(("https://tfhub.dev/google/nnlm/2", False, "f" * 64), {})]


# A pair of TF-Hub


def test_a_pair_of_model_garden():
    folders = [data_file(f"checkpoints/tfhub_{name}/saved_model") for name in ("preprocess", "encoder")]
    preprocess, encoder = map(kba.hub_layer, folders)
    inputs = named_inputs()
    stored = np.load(data_file("checkpoints/inputs.npz"))
    found = keras.Model(inputs, encoder(inputs))({name: tf.constant(stored[name]) for name in NAMES})
    expected = np.load(data_file("checkpoints/tfhub_encoder/expected.npz"))
    for name in ("pooled_output", "sequence_output"):
        np.testing.assert_allclose(found[name], expected[name], atol=2e-5)
    np.testing.assert_allclose(np.stack(found["encoder_outputs"]), expected["layer_outputs"], atol=2e-5)
    texts = json.loads(data_file("checkpoints/texts.json").read_text(encoding="utf-8"))
    packed = np.load(data_file("checkpoints/tfhub_preprocess/expected.npz"))
    text = keras.Input((), dtype="string")
    ids = preprocess(text)
    assert {name: x.shape for name, x in ids.items()} == dict.fromkeys(NAMES, (None, 32))
    model = keras.Model(text, {**ids, "pooled": encoder(ids)["pooled_output"]})
    found = model(tf.constant(texts))
    for name in NAMES:
        np.testing.assert_array_equal(found[name], packed[f"call_default_32/{name}"])
    direct = encoder({name: tf.constant(packed[f"call_default_32/{name}"]) for name in NAMES})
    np.testing.assert_allclose(found["pooled"], direct["pooled_output"], atol=2e-5)
