import importlib.util
import json
import socket
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401
from conftest import CONFIG, ROOT, VOCABULARY, data_file, run_python
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

import keras_bert_app as kba
from keras_bert_app import handles, heads, serving_ops
from keras_bert_app.checkpoints import tfhub_export

TEXTS = ["the great films", "dull, boring, Dull!", "", "film " * 50, "\u00e9\u4e2d \U0001f600"]
NAMES = ("input_word_ids", "input_mask", "input_type_ids")


def randomize(model, seed):
    random = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(random.normal(1 if variable.name == "gamma" else 0, 0.3, variable.shape))
    return model


def inputs(predictions=True):
    random = np.random.default_rng(1)
    found = {
        "input_word_ids": random.integers(0, 61, (3, 7)),
        "input_mask": np.arange(7) < [[7], [4], [2]],
        "input_type_ids": np.arange(7) > [[7], [2], [0]],
    }
    if predictions:
        found["masked_lm_positions"] = random.integers(0, 7, (3, 2))
    return {name: tf.constant(value.astype("int32")) for name, value in found.items()}


def close(found, expected, atol=1e-5):
    tf.nest.assert_same_structure(found, expected)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


def graph(folder):
    (found,) = SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs
    return found


@pytest.fixture(scope="module")
def config():
    return kba.BertConfig.from_dict({**CONFIG, "num_hidden_layers": 2, "hidden_dropout_prob": 0.4})


@pytest.fixture(scope="module")
def pretrainer(config):
    encoder = kba.bert_encoder(config)
    return randomize(heads.pretrainer(encoder, activation="relu", epsilon=1e-3), 2), encoder


@pytest.fixture(scope="module")
def preprocessor():
    tokenizer = kba.BertTokenizer(VOCABULARY, lowercase=False, strip_accents=True)
    return kba.BertPreprocessor(tokenizer, sequence_length=13)


@pytest.fixture(scope="module")
def pair(tmp_path_factory, pretrainer, config, preprocessor):
    """The folder of a pair, made of a masked language model."""
    folder = tmp_path_factory.mktemp("tfhub") / "pair"
    tfhub_export.write(pretrainer[0], config, folder, preprocessor)
    return folder


@pytest.fixture(scope="module")
def encoder(pair):
    return tf.saved_model.load(str(pair / "encoder"))


@pytest.fixture(scope="module")
def preprocess(pair):
    return tf.saved_model.load(str(pair / "preprocess"))


# The encoder


def test_the_encoder_gives_the_numbers_of_the_model(encoder, pretrainer):
    model, expected = pretrainer
    expected = expected(inputs(False))
    expected["default"] = expected["pooled_output"]
    close(encoder(inputs(False)), expected)
    close(encoder(inputs(False), training=False), expected)
    assert {tensor.dtype for tensor in tf.nest.flatten(encoder(inputs(False)))} == {tf.float32}
    expected["mlm_logits"] = model(inputs())["mlm_logits"]
    close(encoder.mlm(inputs()), expected)


def test_the_signature_has_names(encoder, pretrainer):
    signature = encoder.signatures["serving_default"]
    assert {name: spec.shape.as_list() for name, spec in signature.structured_input_signature[1].items()} == {
        name: [None, None] for name in NAMES
    }
    expected = pretrainer[1](inputs(False))
    found = signature(**inputs(False))
    layers = ["encoder_outputs_0", "encoder_outputs_1"]
    assert sorted(found) == ["default", *layers, "pooled_output", "sequence_output"]
    close(found["encoder_outputs_1"], expected["encoder_outputs"][1])
    close(found["default"], expected["pooled_output"])


def test_dropout_and_gradients(encoder, pretrainer):
    first, second = (encoder.mlm(inputs(), training=True)["mlm_logits"] for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    found, expected = {}, {}
    for model, variables, gradients in (
        (encoder.mlm, encoder.mlm.trainable_variables, found),
        (pretrainer[0], [v.value for v in pretrainer[0].trainable_variables], expected),
    ):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(inputs(), training=False)["mlm_logits"] ** 2)
        values = tape.gradient(loss, list(variables))
        values = {
            v.name: tf.convert_to_tensor(g) for v, g in zip(variables, values, strict=True) if g is not None
        }
        gradients.update(values)
    assert len(expected) == len(found) - 2  # the pooler has no part in it
    for name, gradient in expected.items():
        np.testing.assert_allclose(found[name], gradient, rtol=1e-3, atol=1e-2, err_msg=name)
    assert encoder.regularization_losses == encoder.mlm.regularization_losses == []


def test_each_variable_is_stored_once_by_its_own_name(pair, encoder, pretrainer):
    reader = tf.train.load_checkpoint(str(pair / "encoder" / "variables" / "variables"))
    objects = TrackableObjectGraph.FromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    found = {a.full_name: a.checkpoint_key for node in objects.nodes for a in node.attributes}
    seeds = {name for name in found if name.endswith("seed_generator_state")}
    assert len(seeds) == 1 + 2 * 2
    expected = {v.path: v for v in pretrainer[0].trainable_variables if not v.path.startswith("nsp")}
    assert set(found) - seeds == {*expected, "do_lower_case"}
    assert len(reader.get_variable_to_shape_map()) == len(found) + 1  # the object graph itself
    for path, variable in expected.items():
        np.testing.assert_array_equal(reader.get_tensor(found[path]), variable)
    weights = [v for v in encoder.variables if v.dtype == tf.float32]
    assert len(encoder.trainable_variables) == len(weights) == len(pretrainer[1].trainable_variables)
    assert len(encoder.variables) == len(weights) + len(seeds)
    assert len(encoder.mlm.trainable_variables) == len(expected)
    assert len(encoder.mlm.variables) == len(expected) + len(seeds)


def test_what_the_pair_tells_of_itself(pair, encoder, preprocess, config):
    for name, loaded in (("encoder", encoder), ("preprocess", preprocess)):
        assets = pair / name / "assets"
        assert loaded.vocab_file.asset_path.numpy().decode() == str(assets / "vocab.txt")
        assert loaded.do_lower_case.numpy() is np.False_
        assert kba.BertTokenizer(assets / "vocab.txt").vocabulary == tuple(VOCABULARY)
        assert kba.BertConfig.from_json(assets / "bert_config.json") == config
        options = json.loads((assets / "tokenizer_config.json").read_text())
        assert options == {
            "do_lower_case": False,
            "strip_accents": True,
            "max_input_chars_per_word": 100,
            "special_tokens": [],
        }
        head = json.loads((assets / "mlm_config.json").read_text())
        assert head == {"mlm_activation": "relu", "mlm_epsilon": 1e-3}
        content = (pair / name / "saved_model.pb").read_bytes()
        for secret in (str(ROOT), str(pair), tempfile.gettempdir(), socket.gethostname()):
            assert secret.encode() not in content


def test_the_pair_comes_back(pair, pretrainer):
    preprocessor, encoder = kba.from_pretrained((str(pair / "preprocess"), str(pair / "encoder")))
    tokenizer = preprocessor.tokenizer
    assert preprocessor.sequence_length == 13
    assert (tokenizer.lowercase, tokenizer.strip_accents) == (False, True)
    for found, expected in zip(encoder.weights, pretrainer[1].weights, strict=True):
        if found.trainable:
            np.testing.assert_array_equal(found, expected, err_msg=found.path)


def test_a_classifier_in_mixed_precision(config):
    encoder = kba.bert_encoder(config, dtype="mixed_bfloat16")
    model = randomize(heads.text_classifier(encoder, num_classes=5), 3)
    root = tfhub_export._encoder(model, config)
    assert not hasattr(root, "mlm")
    exact = kba.bert_encoder(config, dtype="float32")
    exact.set_weights(encoder.get_weights())
    found, expected = root.__call__(inputs(False)), exact(inputs(False))
    close(found["sequence_output"], expected["sequence_output"])


def test_a_model_without_pooler(pretrainer, config):
    model = heads.pretrainer(pretrainer[1], ("masked_lm",))
    with pytest.warns(UserWarning, match="no pooler/kernel, pooler/bias: in .* fresh weights"):
        root = tfhub_export._encoder(model, config)
    close(root.mlm.__call__(inputs())["mlm_logits"], model(inputs())["mlm_logits"])
    assert np.abs(root.__call__(inputs(False))["pooled_output"]).max() > 0


# The preprocessing


def test_preprocess_does_as_the_preprocessor(preprocess, preprocessor):
    expected = preprocessor.replace(padding="max_length")
    close(preprocess(TEXTS), expected(TEXTS))
    assert preprocess.signatures["serving_default"].structured_outputs["input_mask"].shape[1] == 13
    close(preprocess.signatures["serving_default"](sentences=tf.constant(TEXTS)), expected(TEXTS))
    pieces = preprocess.tokenize(TEXTS)
    assert pieces.dtype == tf.int32
    assert pieces.shape.as_list() == [5, None, None]
    assert pieces[:3].to_list() == [[[6], [9], [7, 30]], [[16], [35], [17], [35], [1], [33]], []]
    assert pieces.merge_dims(1, 2).to_list() == preprocessor.tokenizer(TEXTS).to_list()
    assert preprocess.tokenize([]).shape.as_list() == [0, None, None]
    tokens = preprocess.tokenize.get_special_tokens_dict()
    assert {name: int(value) for name, value in tokens.items()} == {
        "vocab_size": len(VOCABULARY), "start_of_sequence_id": 2, "end_of_segment_id": 3,
        "padding_id": 0, "mask_id": 4,
    }  # fmt: skip
    assert {value.dtype for value in tokens.values()} == {tf.int32}


@pytest.mark.parametrize("by_word", [True, False])
def test_packing_does_as_the_preprocessor(preprocess, preprocessor, by_word):
    expected = preprocessor.replace(padding="max_length")
    first, second = preprocess.tokenize(TEXTS), preprocess.tokenize(TEXTS[::-1])
    if not by_word:
        first, second = first.merge_dims(1, 2), second.merge_dims(1, 2)
    close(preprocess.bert_pack_inputs([first]), expected(TEXTS))
    close(preprocess.bert_pack_inputs([first, second]), expected((TEXTS, TEXTS[::-1])))
    for length in (5, tf.constant(24)):
        packed = preprocess.bert_pack_inputs([first, second], seq_length=length)
        close(packed, expected((TEXTS, TEXTS[::-1]), sequence_length=length))
    with pytest.raises(tf.errors.InvalidArgumentError, match="seq_length is too short: give at least 5"):
        preprocess.bert_pack_inputs([first, second], seq_length=4)


@pytest.mark.parametrize("truncation", ["waterfall", "only_second", "head_tail"])
def test_packing_truncates_as_the_preprocessor(preprocessor, truncation):
    preprocessor = preprocessor.replace(truncation=truncation, padding="max_length")
    pieces = preprocessor.tokenizer(TEXTS)
    pack = tfhub_export._preprocess(preprocessor).bert_pack_inputs.__call__
    close(pack([pieces, pieces[::-1]]), preprocessor((TEXTS, TEXTS[::-1])))
    single = preprocessor.replace(truncation="longest_first") if truncation == "only_second" else preprocessor
    close(pack([pieces]), single(TEXTS))


def test_text_without_a_batch_axis_is_an_error(preprocess):
    signature = preprocess.signatures["serving_default"]
    for bad in ("no batch axis", [["two", "axes"]]):
        with pytest.raises(ValueError, match="Could not find matching concrete function"):
            preprocess(tf.constant(bad))
        with pytest.raises(tf.errors.InvalidArgumentError, match="shape"):  # as a model server would
            tf.raw_ops.StatefulPartitionedCall(
                args=[tf.constant(bad), *signature.captured_inputs],
                Tout=[tensor.dtype for tensor in signature.outputs], f=signature,
            )  # fmt: skip


@pytest.mark.parametrize("name", ["encoder", "preprocess"])
def test_all_of_it_can_be_served(pair, name):
    definition = graph(pair / name).graph_def
    assert serving_ops.not_served(definition) == []
    assert ("FastBertNormalize" in serving_ops.operations(definition)) == (name == "preprocess")


# Errors


def test_a_length_that_the_encoder_does_not_take(tmp_path, pretrainer, config, preprocessor):
    with pytest.raises(ValueError, match=r"sequence_length=33: .* at most 32. Give .*sequence_length=32"):
        tfhub_export.write(pretrainer[1], config, tmp_path, preprocessor.replace(sequence_length=33))


def test_another_backend(tmp_path, pretrainer, config, preprocessor, monkeypatch):
    monkeypatch.setattr("keras.config.backend", lambda: "torch")
    with pytest.raises(ValueError, match="cannot be written with the torch backend .* KERAS_BACKEND="):
        tfhub_export.write(pretrainer[1], config, tmp_path, preprocessor)


def test_a_full_disk(tmp_path, pretrainer, config, preprocessor, monkeypatch):
    def fail(*args):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    for name in ("_encoder", "_preprocess", "_signature"):
        monkeypatch.setattr(tfhub_export, name, lambda *args: tf.Module())
    monkeypatch.setattr("tensorflow.saved_model.save", fail)
    with pytest.raises(OSError, match="No space left on device"):
        tfhub_export.write(pretrainer[1], config, tmp_path, preprocessor)


# tensorflow_hub in a process that knows nothing of this package

HUB = """
import json, sys
import tensorflow as tf, tensorflow_hub as hub, tensorflow_text
import tf_keras

preprocess = hub.KerasLayer(sys.argv[1] + "/preprocess")
loaded = hub.load(sys.argv[1] + "/encoder")
encoder, mlm = (hub.KerasLayer(part, trainable=True) for part in (loaded, loaded.mlm))
text = tf_keras.Input((), dtype=tf.string)
outputs = encoder(preprocess(text))
model = tf_keras.Model(text, tf_keras.layers.Dense(1)(outputs["pooled_output"]))
model.compile("sgd", "mse", run_eagerly=True)
texts = tf.constant(["the great film", "dull"])
before = encoder(preprocess(texts))["pooled_output"].numpy()
logits = mlm({**preprocess(texts), "masked_lm_positions": tf.constant([[1], [0]])})["mlm_logits"]
model.train_on_batch(texts, tf.constant([1.0, 0.0]))
after = encoder(preprocess(texts))["pooled_output"].numpy()
print(json.dumps({
    "weights": [len(encoder.trainable_weights), len(mlm.trainable_weights)],
    "before": before.tolist(), "moved": float(abs(after - before).max()), "logits": logits.numpy().tolist(),
    "ours": [name for name in sys.modules if name.startswith("keras_bert_app")],
}))
"""


@pytest.mark.skipif(
    not importlib.util.find_spec("pkg_resources"), reason="tensorflow_hub needs setuptools below 82"
)
def test_tensorflow_hub_calls_and_trains_it(pair, pretrainer, preprocessor):
    pytest.importorskip("tf_keras", reason="hub.KerasLayer is a layer of Keras 2")
    done = run_python(HUB, pair, TF_USE_LEGACY_KERAS="1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    packed = preprocessor.replace(padding="max_length")(["the great film", "dull"])
    close(np.array(found["before"]), pretrainer[1](packed)["pooled_output"])
    packed["masked_lm_positions"] = tf.constant([[1], [0]])
    close(np.array(found["logits"]), pretrainer[0](packed)["mlm_logits"])
    assert found["moved"] > 1e-4
    assert found["weights"] == [
        len(pretrainer[1].trainable_weights),
        len(pretrainer[0].trainable_weights) - 2,
    ]
    assert found["ours"] == []


# Beside the SavedModels of Model Garden


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """`(original, ours)` for encoder and preprocess: ours has the weights and vocabulary of the other."""
    folders = {name: data_file(f"checkpoints/tfhub_{name}/saved_model") for name in ("encoder", "preprocess")}
    pair = (str(folders["preprocess"]), str(folders["encoder"]))
    preprocessor, encoder = kba.from_pretrained(pair)
    mlm = heads.pretrainer(encoder, ("masked_lm",))
    handles.load_checkpoint(mlm, pair)
    model = keras.Model(mlm.input, {**encoder.output, **mlm.output})
    config = kba.BertConfig(
        vocab_size=1003, hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=112, max_position_embeddings=64, hidden_act="gelu_new",
    )  # fmt: skip
    ours = tmp_path_factory.mktemp("ours") / "pair"
    tfhub_export.write(model, config, ours, preprocessor)
    return {
        name: (tf.saved_model.load(str(folder)), tf.saved_model.load(str(ours / name)))
        for name, folder in folders.items()
    }


def test_the_encoder_is_called_as_the_original(originals):
    original, ours = originals["encoder"]
    stored = np.load(data_file("checkpoints/inputs.npz"))
    ids = {name: tf.constant(stored[name]) for name in NAMES}
    masked = {**ids, "masked_lm_positions": tf.constant(stored["masked_lm_positions"])}
    for call in (
        lambda model: model(ids),
        lambda model: model(ids, training=False),
        lambda model: model(ids, False),
        lambda model: model({name: stored[name] for name in NAMES}),
        lambda model: model({name: [[1, 1]] for name in NAMES}),
    ):
        close(call(ours), call(original), 2e-5)
    expected = original.mlm(masked)
    found = ours.mlm(masked)
    close(found.pop("default"), expected["pooled_output"], 2e-5)  # which the original leaves out here
    close(found, expected, 2e-5)
    tf.nest.assert_same_structure(ours(ids, training=True), original(ids, True))
    for wrong in ({"input_word_ids": ids["input_word_ids"]}, masked, ids["input_word_ids"]):
        for model in (original, ours):
            with pytest.raises(ValueError, match="Could not find matching concrete function"):
                model(wrong)
    assert ours.do_lower_case.numpy() == original.do_lower_case.numpy()
    assert list(ours.regularization_losses) == list(original.regularization_losses)
    assert len(ours.trainable_variables) == len(original.trainable_variables)
    assert len(ours.mlm.trainable_variables) == len(original.mlm.trainable_variables)
    path, expected = (tf.io.read_file(model.vocab_file.asset_path).numpy() for model in (ours, original))
    assert path == expected


def test_the_preprocessing_is_called_as_the_original(originals):
    original, ours = originals["preprocess"]
    texts = json.loads(data_file("checkpoints/texts.json").read_text(encoding="utf-8"))
    expected = json.loads(data_file("checkpoints/tfhub_preprocess/expected.json").read_text(encoding="utf-8"))
    same = [text for index, text in enumerate(texts) if index not in (2, 6)]  # see the README there

    def pairs(model, **options):
        pieces = model.tokenize(same)
        return model.bert_pack_inputs([pieces, pieces[::-1]], **options)

    for call in (
        lambda model: model(same),
        lambda model: model(tf.constant(same), training=False),
        lambda model: model(np.array(same), True),
        lambda model: model.tokenize(same),
        lambda model: model.tokenize(same, training=False),
        lambda model: model.tokenize.get_special_tokens_dict(),
        lambda model: model.bert_pack_inputs([model.tokenize(same)]),
        lambda model: model.bert_pack_inputs([model.tokenize(same).merge_dims(1, 2)], 64),
        pairs,
        lambda model: pairs(model, seq_length=24),
        lambda model: pairs(model, seq_length=tf.constant(11)),
    ):
        found, wanted = call(ours), call(original)
        tf.nest.assert_same_structure(found, wanted, expand_composites=True)
        for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(wanted), strict=True):
            assert (one.dtype, one.shape.rank) == (other.dtype, other.shape.rank)
            ragged = isinstance(one, tf.RaggedTensor)
            assert one.to_list() == other.to_list() if ragged else np.array_equal(one, other)
    assert {k: int(v) for k, v in ours.tokenize.get_special_tokens_dict().items()} == expected[
        "special_tokens_dict"
    ]
