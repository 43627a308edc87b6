import inspect

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from conftest import VOCABULARY, run_python

import keras_bert_app as kba
from keras_bert_app.preprocessing import assembly, graphs


@pytest.fixture(scope="module")
def tokenizer():
    return kba.BertTokenizer(VOCABULARY)


@pytest.fixture(scope="module")
def preprocessor(tokenizer):
    return kba.BertPreprocessor(tokenizer, sequence_length=8)


TEXTS = ["the film", "great!", "the very dull plot"]


@pytest.mark.parametrize(
    "given",
    [TEXTS, np.array(TEXTS), np.array(TEXTS, object), [t.encode() for t in TEXTS],
     np.array([t.encode() for t in TEXTS]), tf.constant(TEXTS), pd.Series(TEXTS, index=[7, 3, 5]),
     pd.Series(TEXTS, dtype="category"), pd.DataFrame({"text": TEXTS})["text"]],
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


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("windows", [False, True])
def test_what_is_called_often_becomes_a_graph(preprocessor, monkeypatch, pair, windows):
    preprocessor, seen = preprocessor.replace(), []
    tokenize = assembly.tokenize

    def count(*given, **options):
        seen.append(given)
        return tokenize(*given, **options)

    monkeypatch.setattr(assembly, "tokenize", count)

    def ask(texts):
        given = (texts, texts[::-1]) if pair else texts
        found = preprocessor.windows(given, stride=2) if windows else preprocessor(given, return_offsets=True)
        return {name: tensor.numpy().tolist() for name, tensor in found.items()}

    batches = [TEXTS, TEXTS[:1], [], TEXTS + TEXTS]
    expected = [ask(batch) for batch in batches]
    for _ in range(graphs.OFTEN):
        ask(TEXTS)
    calls = len(seen)
    assert [ask(batch) for batch in batches] == expected
    assert len(seen) == calls  # nothing is done operation by operation, nor traced again
    preprocessor.sequence_length = 5
    assert [ask(batch) for batch in batches] != expected


def test_graphs_are_few(preprocessor):
    preprocessor = preprocessor.replace()
    lengths = range(3, 3 + 2 * graphs.MOST)
    for _ in range(graphs.OFTEN + 2):
        for length in lengths:
            assert preprocessor(["film " * 40], sequence_length=length)["input_mask"].shape == (1, length)
    assert len(preprocessor._graphs._made) == graphs.MOST


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


def test_every_option_survives_a_file(tmp_path):
    options = {
        "sequence_length": 17,
        "padding": "max_length",
        "truncation": "head_tail",
        "pad_to_multiple_of": 4,
    }
    names = [
        p for p in inspect.signature(kba.BertPreprocessor.__init__).parameters if p not in ("self", "kwargs")
    ]
    assert set(names) == {"tokenizer", *options}
    tokenizer = kba.BertTokenizer([*VOCABULARY, "\u2028", "Great"], lowercase=False)
    preprocessor = kba.BertPreprocessor(tokenizer, **options)
    text = keras.Input((), dtype="string")
    model = keras.Model(text, preprocessor(text, sequence_length=9, return_offsets=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    layer = loaded.layers[-1]
    assert {name: layer.get_config()[name] for name in options} == options
    assert layer.tokenizer.lowercase is False
    assert layer.tokenizer.vocabulary == tokenizer.vocabulary
    expected = preprocessor(TEXTS, sequence_length=9, return_offsets=True)
    for name, tensor in loaded(tf.constant(TEXTS)).items():
        np.testing.assert_array_equal(tensor, expected[name])
        assert tensor.shape == (3, 9)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (3, TypeError, "text is 3"),
        ({"text": ["a"]}, TypeError, r"text is {'text'.*\(dict\)"),
        (["a", None], TypeError, "text 1 is None"),
        (["a", 1.5], TypeError, "text 1 is 1.5"),
        (pd.Series(["a", None]), TypeError, "text 1 is "),
        (pd.DataFrame({"text": ["a"]}), TypeError, r"\(DataFrame\): give a string or a list"),
        ([["a"]], TypeError, r"text 0 is \['a'\]"),
        (tf.constant([1, 2]), TypeError, "tensor of int32"),
        (tf.constant("a"), ValueError, r"shape \(\)"),
        (tf.constant([["a"]]), ValueError, r"shape \(1, 1\)"),
        (np.array([["a"]]), TypeError, "give a string or a list of strings"),
        (np.array(5), TypeError, "give a string or a list of strings"),
        (tf.data.Dataset.from_tensors("a"), TypeError, r"give dataset.batch\(32\).map"),
        (tf.ragged.constant([[["a"]]]), ValueError, r"give texts as words, \(batch, words\)"),
        (tf.ragged.constant([[1]]), TypeError, "tensor of int32"),
        ((["a", "b"], ["a", None]), TypeError, "text 1 is None"),
        (("a", "b", "c", "d"), ValueError, "too short for 4 texts in one input: give at least 9"),
        ((["a", "b"], ["a"]), ValueError, "give as many of each, not 2, 1"),
        (([], ["a"]), ValueError, "give as many of each, not 0, 1"),
        ((), ValueError, "text is an empty tuple"),
    ],
)
def test_bad_input(preprocessor, given, error, message):
    with pytest.raises(error, match=message):
        preprocessor(given)


def test_functional_input_with_an_axis_too_many(preprocessor):
    with pytest.raises(ValueError, match=r"give keras.Input\(shape=\(\), dtype='string'\)"):
        preprocessor(keras.Input((1,), dtype="string"))


def test_functional_inputs_of_another_type(preprocessor):
    text = keras.Input((), dtype="string")
    for given in (keras.Input((), dtype="int32"), (text, keras.Input((1,), dtype="string"))):
        with pytest.raises(ValueError, match=r"give keras.Input\(shape=\(\), dtype='string'\)"):
            preprocessor(given)
    for method in (preprocessor.windows, preprocessor.report):
        with pytest.raises(TypeError, match="text is a keras.Input: give texts"):
            method(text)


@pytest.mark.parametrize("strategy", ["longest_first", "waterfall", "only_first", "only_second", "head_tail"])
def test_pairs_of_different_numbers_of_texts_in_a_graph(tokenizer, strategy):
    preprocessor = kba.BertPreprocessor(tokenizer, truncation=strategy)
    pair = tf.function(
        lambda a, b: preprocessor((a, b)), input_signature=[tf.TensorSpec([None], "string")] * 2
    )
    assert pair(["a"], ["b"])["input_mask"].shape == (1, 5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="different numbers of texts"):
        pair(["a", "b"], ["a"])
    for method in (preprocessor.windows, preprocessor.report):
        with pytest.raises(ValueError, match="give as many of each, not 2, 1"):
            method((["a", "b"], ["a"]))


def test_unbatched_tf_data_says_what_to_do(preprocessor):
    with pytest.raises(ValueError, match=r"call batch\(\) first"):
        tf.data.Dataset.from_tensor_slices(TEXTS).map(preprocessor)


@pytest.mark.parametrize("length", [2, 0, 8.0, True])
def test_impossible_length(tokenizer, length):
    with pytest.raises(ValueError, match=f"sequence_length={length}"):
        kba.BertPreprocessor(tokenizer, length)


def test_too_short_for_a_pair(tokenizer):
    with pytest.raises(ValueError, match=r"sequence_length=4 is too short for 2 texts .* at least 5"):
        kba.BertPreprocessor(tokenizer, 4)(("a", "b"))
    with pytest.raises(ValueError, match="sequence_length=2 is too short for 1 text in one input"):
        kba.BertPreprocessor(tokenizer, 4)("a", sequence_length=2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="sequence_length is too short for 2 texts"):
        kba.BertPreprocessor(tokenizer, 9)(("a", "b"), sequence_length=tf.constant(4))


def test_length_of_a_call_that_cannot_be(preprocessor):
    for length in (8.0, True, "8", tf.constant(8.7), tf.constant([8])):
        with pytest.raises(TypeError, match="give a whole number, or a scalar tensor of one"):
            preprocessor("a", sequence_length=length)


def test_impossible_options(tokenizer):
    for given in (None, keras.layers.Dense(2)):
        with pytest.raises(TypeError, match="give a BertTokenizer, or the path of a vocab.txt"):
            kba.BertPreprocessor(given)
    with pytest.raises(ValueError, match="padding='left'"):
        kba.BertPreprocessor(tokenizer, padding="left")
    with pytest.raises(ValueError, match="truncation='random': one of longest_first, waterfall"):
        kba.BertPreprocessor(tokenizer, truncation="random")
    with pytest.raises(ValueError, match="pad_to_multiple_of=0"):
        kba.BertPreprocessor(tokenizer, pad_to_multiple_of=0)
    with pytest.raises(ValueError, match="only_second.* needs a pair"):
        kba.BertPreprocessor(tokenizer, truncation="only_second")("a")
    with pytest.raises(ValueError, match="stride=0"):
        kba.BertPreprocessor(tokenizer).windows("a", stride=0)
    with pytest.raises(ValueError, match="batch_size=0"):
        kba.BertPreprocessor(tokenizer).report("a", batch_size=0)


def tokens_of(found):
    return [
        " ".join(VOCABULARY[i] for i, real in zip(ids, mask, strict=True) if real)
        for ids, mask in zip(found["input_word_ids"].numpy(), found["input_mask"].numpy(), strict=True)
    ]


def one_by_one(lengths, budget):
    """google-research/bert, `_truncate_seq_pair`, for any number of texts."""
    lengths = list(lengths)
    while sum(lengths) > budget:
        longest = max(lengths)
        lengths[max(i for i, length in enumerate(lengths) if length == longest)] -= 1
    return lengths


def in_turn(order):
    def cut(lengths, budget):
        kept = [0] * len(lengths)
        for i in order(len(lengths)):
            kept[i] = min(lengths[i], budget - sum(kept))
        return kept

    return cut


@pytest.mark.parametrize(
    ("strategy", "cut"),
    [
        ("longest_first", one_by_one),
        ("waterfall", in_turn(range)),
        ("only_first", in_turn(lambda n: [*range(1, n), 0])),
        ("only_second", in_turn(lambda n: [0, *range(2, n), 1])),
    ],
)
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_truncation(tokenizer, strategy, cut, number):
    if strategy == "only_second" and number == 1:
        with pytest.raises(ValueError, match="needs a pair of texts"):
            kba.BertPreprocessor(tokenizer, truncation=strategy)("the film")
        return
    random = np.random.default_rng(number)
    lengths = random.integers(0, 12, (200, number))
    words = ("the", "film", "was", "great")
    texts = tuple([f"{word} " * n for n in column] for word, column in zip(words, lengths.T, strict=False))
    for length in (1 + 2 * number, 11, 17, 99):
        found = tokens_of(kba.BertPreprocessor(tokenizer, length, truncation=strategy)(texts))
        for row, tokens in zip(lengths, found, strict=True):
            kept = cut([int(n) for n in row], length - 1 - number)
            parts = (f"{word} " * n for word, n in zip(words, kept, strict=False))
            assert tokens == "[CLS] " + "".join(f"{part}[SEP] " for part in parts).strip()


@pytest.mark.parametrize(("number", "head", "tail"), [(6, 6, 0), (9, 3, 5), (40, 3, 5)])
def test_head_and_tail(tokenizer, number, head, tail):
    letters = [token for token in VOCABULARY if len(token) == 1 and token.isalpha()]
    words = [letters[i % len(letters)] for i in range(number)]
    found = kba.BertPreprocessor(tokenizer, head + tail + 2 if tail else 10, truncation="head_tail")(
        " ".join(words)
    )
    expected = words if number <= 8 else words[: 8 // 4] + words[-6:]
    assert tokens_of(found) == [f"[CLS] {' '.join(expected)} [SEP]"]


def test_head_and_tail_of_512():
    """Sun et al. 2019 keep the first 128 and the last 382 of 510."""
    from keras_bert_app.preprocessing.truncation import head_tail

    ((head, tail),) = head_tail([tf.constant([511, 510, 3])], 510)
    assert (head[0], head[1].numpy().tolist()) == (0, [128, 510, 3])
    assert [limit.numpy().tolist() for limit in tail] == [[511 - 382, 510, 3], [511, 510, 3]]


def test_type_ids_of_many_texts(preprocessor):
    found = preprocessor(("the film", "great", "plot"), sequence_length=12)
    assert tokens_of(found) == ["[CLS] the film [SEP] great [SEP] plot [SEP]"]
    assert found["input_type_ids"].numpy().tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]


@pytest.mark.parametrize(("multiple", "expected"), [(1, 6), (4, 8), (5, 10), (7, 7), (64, 11)])
def test_padding_to_a_multiple(tokenizer, multiple, expected):
    found = kba.BertPreprocessor(tokenizer, 11, pad_to_multiple_of=multiple)(TEXTS)
    assert found["input_mask"].shape == (3, expected)


def test_length_of_a_call(tokenizer, preprocessor):
    text = "the " * 40
    assert preprocessor(text, sequence_length=5)["input_mask"].shape == (1, 5)
    assert preprocessor(text, sequence_length=np.int64(5))["input_mask"].shape == (1, 5)
    assert preprocessor(text, sequence_length=tf.constant(13, tf.int64))["input_mask"].shape == (1, 13)
    assert kba.BertPreprocessor(tokenizer, 8, "max_length")("a", sequence_length=20)["input_mask"].shape == (
        1,
        20,
    )


def test_replace(tokenizer):
    first = kba.BertPreprocessor(tokenizer, 8, "max_length", "waterfall", 3)
    second = first.replace(sequence_length=9)
    assert (second.sequence_length, second.padding, second.truncation, second.pad_to_multiple_of) == (
        9, "max_length", "waterfall", 3,
    )  # fmt: skip
    assert second.tokenizer is tokenizer
    other = kba.BertTokenizer([*VOCABULARY, "more"])
    assert first.replace(tokenizer=other).tokenizer is other


def test_offsets(preprocessor):
    texts = (["the dull films!", "a"], ["fün b", ""])
    found = {
        name: tensor.numpy()
        for name, tensor in preprocessor(texts, sequence_length=11, return_offsets=True).items()
    }
    assert (
        tokens_of({n: tf.constant(v) for n, v in found.items()})[0]
        == "[CLS] the dull film ##s ! [SEP] fun b [SEP]"
    )
    assert found["starts"].tolist() == [[0, 0, 4, 9, 13, 14, 0, 0, 4, 0], [0] * 10]
    assert found["ends"].tolist() == [[0, 3, 8, 13, 14, 15, 0, 3, 5, 0], [0, 1, *[0] * 8]]
    assert found["words"].tolist() == [[-1, 0, 1, 2, 2, 3, -1, 0, 1, -1], [-1, 0, *[-1] * 8]]


def test_texts_that_are_split_into_words(preprocessor):
    words = tf.ragged.constant([["the", "films!", "films"], [], ["dull"]])
    found = preprocessor(words, return_offsets=True, sequence_length=20)
    assert tokens_of(found) == ["[CLS] the film ##s ! film ##s [SEP]", "[CLS] [SEP]", "[CLS] dull [SEP]"]
    assert found["words"].numpy()[0].tolist() == [-1, 0, 1, 1, 1, 2, 2, -1]
    assert found["ends"].numpy()[0].tolist() == [0, 3, 4, 5, 6, 4, 5, 0]


@pytest.mark.parametrize("stride", [1, 3, 100])
@pytest.mark.parametrize("pair", [False, True])
def test_windows(tokenizer, stride, pair):
    random = np.random.default_rng(stride)
    letters = [token for token in VOCABULARY if len(token) == 1 and token.isalpha()]
    contexts = [random.choice(letters, n).tolist() for n in (0, 3, 7, 8, 9, 30)]
    questions = [["the", "film"], [], ["was"], ["great"] * 20, ["dull"], ["plot"]]
    texts = tuple([" ".join(words) for words in column] for column in (questions, contexts))
    preprocessor = kba.BertPreprocessor(tokenizer, 12)
    found = preprocessor.windows(texts if pair else texts[1], stride=stride)
    rows = found["rows"].numpy().tolist()
    expected_rows, expected = [], []
    for row, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        question = question[: (12 - 3) // 2] if pair else []
        room = 12 - 3 - len(question) if pair else 10
        start = 0
        while True:
            expected_rows.append(row)
            front = [*question, "[SEP]"] if pair else []
            expected.append(" ".join(["[CLS]", *front, *context[start : start + room], "[SEP]"]))
            if start + room >= len(context):
                break
            start += min(stride, room)
    assert rows == expected_rows
    assert tokens_of(found) == expected
    # Offsets are those in the whole text.
    for row, ids, types, starts, ends in zip(
        rows, *(found[n].numpy() for n in ("input_word_ids", "input_type_ids", "starts", "ends")), strict=True
    ):
        for i, kind, start, end in zip(ids, types, starts, ends, strict=True):
            if end:
                assert texts[kind if pair else 1][row][start:end] == VOCABULARY[i]


def test_windows_in_a_graph(tokenizer):
    preprocessor = kba.BertPreprocessor(tokenizer, 6, "max_length")
    texts = ["a b c d e f g", "", "the film"]
    batch = next(
        iter(tf.data.Dataset.from_tensor_slices(texts).batch(3).map(lambda t: preprocessor.windows(t, 2)))
    )
    for name, tensor in preprocessor.windows(texts, 2).items():
        np.testing.assert_array_equal(batch[name], tensor)
    assert batch["rows"].numpy().tolist() == [0, 0, 0, 1, 2]
    assert preprocessor.windows([])["input_mask"].shape == (0, 6)
    assert preprocessor.windows(([], [], []), sequence_length=9)["input_mask"].shape == (0, 9)
    found = preprocessor.windows((["the film"], ["great"], ["a b c d"]), 2, sequence_length=9)
    assert tokens_of(found) == [
        "[CLS] the [SEP] great [SEP] a b c [SEP]", "[CLS] the [SEP] great [SEP] c d [SEP]",
    ]  # fmt: skip
    preprocessor = kba.BertPreprocessor(tokenizer, 6, truncation="only_second")
    assert tokens_of(preprocessor.windows("a b c d e", 4)) == ["[CLS] a b c d [SEP]", "[CLS] e [SEP]"]


def test_report(tokenizer):
    texts = ["the film was great", "Ünknown words: unknown", "a " * 30, ""]
    preprocessor = kba.BertPreprocessor(tokenizer, 10)
    report = preprocessor.report(texts, batch_size=2)
    lengths = [6, 6, 32, 2]
    assert report == {
        "texts": 4, "longest": 32, "truncated": 1, "pieces": sum(lengths) - 8, "cut_pieces": 22,
        "padding": pytest.approx(1 - (6 + 6 + 10 + 2) / (6 * 2 + 10 * 2)),
        "unknown": 4, "unknown_words": [("Ünknown", 1), ("words", 1), (":", 1), ("unknown", 1)],
    }  # fmt: skip
    pairs = preprocessor.report((texts, ["x"] * 4))
    assert (pairs["texts"], pairs["longest"], pairs["unknown"]) == (4, 34, 8)
    assert kba.BertPreprocessor(tokenizer, 40, "max_length").report(["a"])["padding"] == pytest.approx(
        37 / 40
    )
    assert preprocessor.report([])["texts"] == 0
    with pytest.raises(ValueError, match="needs a pair of texts"):
        preprocessor.replace(truncation="only_second").report(texts)
    with pytest.raises(ValueError, match="too short for 2 texts"):
        preprocessor.replace(sequence_length=4).report((texts, texts))
    words = preprocessor.report(tf.ragged.constant([["the", "xyz"], []]))
    assert (words["longest"], words["unknown_words"]) == (4, [("xyz", 1)])


EXPORT = r"""
import sys
import numpy as np
import tensorflow as tf
import tensorflow_text

served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
random = np.random.default_rng(5)
limit = 17
# Beginnings and middles of characters are more likely to confuse a decoder than any bytes.
parts = list(b"a \xc3\xa9\xe0\xa4\xed\xa0\xf0\x9f\xf4\x90\x80\x00#[]")
for _ in range(int(sys.argv[2]) // 1000):
    lengths = random.integers(0, 300, 1000)
    texts = [random.bytes(n) for n in lengths[:500]]
    texts += [bytes(random.choice(parts, n).tolist()) for n in lengths[500:]]
    found = served(text=tf.constant(texts), sequence_length=tf.constant(limit))
    used = found["input_mask"].numpy().sum(1)
    assert found["input_word_ids"].shape[1] <= limit and used.min() >= 2
    assert found["ends"].numpy().max() <= 300
    limit = int(random.integers(3, 600))
for bad in (tf.constant("a"), tf.constant([["a"]])):
    try:
        served(text=bad, sequence_length=tf.constant(9))
    except (tf.errors.InvalidArgumentError, TypeError, ValueError):
        continue
    raise AssertionError(bad)
try:
    served(text=tf.constant(["a"]), sequence_length=tf.constant(2))
except tf.errors.InvalidArgumentError as error:
    assert "give at least 3" in str(error)
    print("served")
"""


def export(preprocessor, folder):
    """A SavedModel of a preprocessor whose length the caller chooses."""

    class Module(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, "text"),
                tf.TensorSpec([], tf.int32, "sequence_length"),
            ]
        )
        def serve(self, text, sequence_length):
            return preprocessor(text, sequence_length=sequence_length, return_offsets=True)

    module = Module()
    tf.saved_model.save(module, folder, signatures=module.serve)


@pytest.mark.parametrize("number", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_random_bytes_through_an_exported_graph(tmp_path, tokenizer, number):
    export(kba.BertPreprocessor(tokenizer), tmp_path / "saved")
    done = run_python(EXPORT, tmp_path / "saved", number)
    assert done.stdout.strip() == "served", done.stderr[-2000:]
