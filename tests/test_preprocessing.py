import gzip
import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import VOCABULARY, data_file

import keras_bert_app as kba


@pytest.fixture(scope="module")
def tokenizer():
    return kba.BertTokenizer(VOCABULARY)


@pytest.fixture(scope="module")
def preprocessor(tokenizer):
    return kba.BertPreprocessor(tokenizer, sequence_length=8)


def pieces(tokenizer, text):
    return [tokenizer.id_to_token(i) for i in tokenizer([text]).to_list()[0]]


def test_word_pieces(tokenizer):
    assert pieces(tokenizer, "Great FILMS, bored!") == ["great", "film", "##s", ",", "[UNK]", "!"]
    assert pieces(tokenizer, "  the\tfilm\u00a0was\nfün ") == ["the", "film", "was", "fun"]
    assert pieces(tokenizer, "") == []


def test_cased():
    tokenizer = kba.BertTokenizer([*VOCABULARY, "Great", "fün"], lowercase=False)
    assert pieces(tokenizer, "Great great GREAT fün") == ["Great", "great", "[UNK]", "fün"]


def test_invalid_bytes_are_left_out(tokenizer):
    assert pieces(tokenizer, b"the \xff\xfe fi\xfflm \xe9") == ["the", "film"]
    assert pieces(tokenizer, "the \ud800 film") == ["the", "film"]


TEXTS = ["the film", "great!", "the very dull plot"]


@pytest.mark.parametrize(
    "given",
    [TEXTS, np.array(TEXTS), np.array(TEXTS, object), [t.encode() for t in TEXTS],
     tf.constant(TEXTS)],
)  # fmt: skip
def test_all_kinds_of_input_give_the_same(preprocessor, given):
    found = preprocessor(given)
    expected = [["[CLS]", "the", "film", "[SEP]"], ["[CLS]", "great", "!", "[SEP]"],
                ["[CLS]", "the", "very", "dull", "plot", "[SEP]"]]  # fmt: skip
    for row, tokens in zip(found["input_word_ids"].numpy(), expected, strict=True):
        tokens += ["[PAD]"] * (6 - len(tokens))
        assert [VOCABULARY[i] for i in row] == tokens
    np.testing.assert_array_equal(found["input_mask"], found["input_word_ids"] != 0)
    np.testing.assert_array_equal(found["input_type_ids"], np.zeros((3, 6)))
    assert all(tensor.dtype == "int32" for tensor in found.values())


def test_one_string_is_a_batch_of_one(preprocessor):
    np.testing.assert_array_equal(preprocessor("the film")["input_word_ids"], [[2, 6, 7, 3]])


def test_empty_batch(tokenizer, preprocessor):
    assert preprocessor([])["input_word_ids"].shape == (0, 2)
    assert preprocessor(([], []))["input_mask"].shape == (0, 3)
    assert kba.BertPreprocessor(tokenizer, 8, "max_length")([])["input_type_ids"].shape == (0, 8)


def test_fixed_length(tokenizer):
    preprocessor = kba.BertPreprocessor(tokenizer, 8, padding="max_length")
    found = preprocessor(["the film", "the " * 20])
    assert found["input_word_ids"].shape == (2, 8)
    np.testing.assert_array_equal(found["input_word_ids"][1], [2, 6, 6, 6, 6, 6, 6, 3])


@pytest.mark.parametrize(("first", "second"), [(a, b) for a in (0, 1, 2, 3, 9) for b in (0, 1, 2, 3, 9)])
@pytest.mark.parametrize("length", [5, 8, 9])
def test_pairs_are_cut_as_in_google_research_bert(tokenizer, first, second, length):
    a, b = ["the"] * first, ["film"] * second
    while len(a) + len(b) > length - 3:  # _truncate_seq_pair of run_classifier.py
        (a if len(a) > len(b) else b).pop()
    tokens = ["[CLS]", *a, "[SEP]", *b, "[SEP]"]
    found = kba.BertPreprocessor(tokenizer, length)((["the " * first], ["film " * second]))
    assert [VOCABULARY[i] for i in found["input_word_ids"].numpy()[0]] == tokens
    assert found["input_type_ids"].numpy()[0].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1)


def test_pairs_of_different_lengths(preprocessor):
    found = preprocessor((["the film", "great"], ["plot", "the dull dull dull dull dull"]))
    np.testing.assert_array_equal(found["input_mask"].numpy().sum(1), [6, 8])
    np.testing.assert_array_equal(found["input_type_ids"][0], [0, 0, 0, 0, 1, 1, 0, 0])


def test_tf_data(preprocessor):
    batches = tf.data.Dataset.from_tensor_slices(TEXTS).batch(2).map(preprocessor)
    assert [batch["input_word_ids"].shape for batch in batches] == [(2, 4), (1, 6)]
    pairs = tf.data.Dataset.from_tensor_slices((TEXTS, TEXTS)).batch(3).map(lambda *p: preprocessor(p))
    np.testing.assert_array_equal(
        next(iter(pairs))["input_word_ids"], preprocessor((TEXTS, TEXTS))["input_word_ids"]
    )


@pytest.mark.parametrize("pair", [False, True])
def test_functional_model_keras_file_and_saved_model(tmp_path, preprocessor, pair):
    text = keras.Input((), dtype="string")
    inputs = [text, keras.Input((), dtype="string")] if pair else text
    model = keras.Model(inputs, preprocessor(tuple(inputs) if pair else text))
    assert model.output["input_word_ids"].shape == (None, None)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    given = [tf.constant(TEXTS)] * 2 if pair else tf.constant(TEXTS)
    expected = preprocessor((TEXTS, TEXTS) if pair else TEXTS)
    for name, tensor in loaded(given).items():
        np.testing.assert_array_equal(tensor, expected[name])
    loaded.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved").serve(given)
    for name, tensor in served.items():
        np.testing.assert_array_equal(tensor, expected[name])


def test_with_an_encoder_in_one_functional_model(pretrained):
    """The composition that the design promises."""
    preprocessor, encoder = kba.from_pretrained(pretrained)
    text = keras.Input(shape=(), dtype="string")
    outputs = encoder(preprocessor(text))
    model = keras.Model(text, keras.layers.Dense(2)(outputs["pooled_output"]))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    loss = model.fit(tf.constant(TEXTS), np.array([0, 1, 0]), verbose=0).history["loss"]
    assert np.isfinite(loss).all()


@pytest.mark.parametrize("layer", [kba.BertTokenizer, kba.BertPreprocessor])
def test_get_config_holds_every_argument(layer):
    names = [p for p in inspect.signature(layer.__init__).parameters if p not in ("self", "kwargs")]
    assert set(names) <= set(layer(VOCABULARY).get_config())


def test_every_option_survives_a_file(tmp_path):
    tokenizer = kba.BertTokenizer([*VOCABULARY, "\u2028", "Great"], lowercase=False)
    text = keras.Input((), dtype="string")
    model = keras.Model(text, kba.BertPreprocessor(tokenizer, 17, "max_length")(text))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    assert (loaded.sequence_length, loaded.padding) == (17, "max_length")
    assert loaded.tokenizer.lowercase is False
    assert loaded.tokenizer.vocabulary == tokenizer.vocabulary


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3, TypeError, "text is 3"),
        ({"text": ["a"]}, TypeError, r"text is {'text'.*\(dict\)"),
        (["a", None], TypeError, "text 1 is None"),
        (["a", 1.5], TypeError, "text 1 is 1.5"),
        ([["a"]], TypeError, r"text 0 is \['a'\]"),
        (tf.constant([1, 2]), TypeError, "tensor of int32"),
        (tf.constant("a"), ValueError, r"shape \(\)"),
        (tf.constant([["a"]]), ValueError, r"shape \(1, 1\)"),
        (("a", "b", "c"), ValueError, "3 texts in a tuple"),
    ],
)
def test_bad_input(preprocessor, given, error, message):
    with pytest.raises(error, match=message):
        preprocessor(given)


def test_functional_input_with_an_axis_too_many(preprocessor):
    with pytest.raises(ValueError, match=r"give keras.Input\(shape=\(\), dtype='string'\)"):
        preprocessor(keras.Input((1,), dtype="string"))


def test_unbatched_tf_data_says_what_to_do(preprocessor):
    with pytest.raises(ValueError, match=r"call batch\(\) first"):
        tf.data.Dataset.from_tensor_slices(TEXTS).map(preprocessor)


@pytest.mark.parametrize("length", [2, 0, 8.0, True])
def test_impossible_length(tokenizer, length):
    with pytest.raises(ValueError, match=f"sequence_length={length}"):
        kba.BertPreprocessor(tokenizer, length)


def test_too_short_for_a_pair(tokenizer):
    with pytest.raises(ValueError, match="too short for a pair"):
        kba.BertPreprocessor(tokenizer, 4)(("a", "b"))


def test_unknown_padding(tokenizer):
    with pytest.raises(ValueError, match="padding='left'"):
        kba.BertPreprocessor(tokenizer, padding="left")


def test_bad_vocabularies(tmp_path):
    with pytest.raises(FileNotFoundError, match="no vocabulary"):
        kba.BertTokenizer(tmp_path / "vocab.txt")
    with pytest.raises(ValueError, match=r"lacks \[CLS\], \[SEP\]"):
        kba.BertTokenizer(["[PAD]", "[UNK]", "[MASK]"])
    with pytest.raises(ValueError, match="holds 'film' twice"):
        kba.BertTokenizer([*VOCABULARY, "film"])
    (tmp_path / "vocab.txt").write_bytes("é".encode("latin1"))
    with pytest.raises(ValueError, match="is not UTF-8"):
        kba.BertTokenizer(tmp_path / "vocab.txt")
    with pytest.raises(ValueError, match="has no vocabulary"):
        kba.BertTokenizer()(["a"])


def test_real_questions():
    """Ids of Google's tokenizer for 8,000 questions."""
    tokenizer = kba.BertTokenizer(data_file("vocab/bert-base-uncased/vocab.txt"))
    with gzip.open(data_file("tokenizer/questions.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    found = tokenizer([row["text"] for row in rows]).to_list()
    different = [row["text"] for row, ids in zip(rows, found, strict=True) if row["ids"] != ids]
    assert len(different) <= 0.002 * len(rows), different[:5]
