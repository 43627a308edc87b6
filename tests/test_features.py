import keras
import numpy as np
import pytest

import keras_bert_app as kba
from keras_bert_app.data import buckets, features
from keras_bert_app.data.features import Features


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(5)
    lengths = random.integers(3, 60, 1000)
    found = {
        "input_word_ids": [random.integers(1, 90, n).astype("int32") for n in lengths],
        "input_type_ids": [np.full(n, n % 2, "int32") for n in lengths],
    }
    return Features(found, np.arange(1000))


def test_inputs(rows):
    batch = rows.inputs([4, 9])
    lengths = [len(rows.rows["input_word_ids"][i]) for i in (4, 9)]
    assert batch["input_word_ids"].shape == (2, -(-max(lengths) // 8) * 8)
    for row, (index, length) in enumerate(zip((4, 9), lengths, strict=True)):
        for name in rows.rows:
            np.testing.assert_array_equal(batch[name][row, :length], rows.rows[name][index])
            assert not batch[name][row, length:].any()
        np.testing.assert_array_equal(
            batch["input_mask"][row], np.arange(batch["input_mask"].shape[1]) < length
        )


def test_batch(rows):
    """Arrays by item, and lists of arrays that are padded as the inputs are."""
    per_piece = [row + 1 for row in rows.rows["input_word_ids"]]
    labels = np.arange(1000)
    assert list(rows.batch([4, 9], (labels, None))[1]) == [4, 9]
    inputs, targets = rows.batch([4, 9], (per_piece, None))
    assert targets.shape == inputs["input_word_ids"].shape
    np.testing.assert_array_equal(targets, (inputs["input_word_ids"] + 1) * inputs["input_mask"])
    assert targets.dtype == "int32"
    _, _, weights = rows.batch([4, 9], (labels, labels / 2))
    assert list(weights) == [2.0, 4.5]


def test_shuffled_batches(rows):
    batches = buckets.shuffled_batches(rows.lengths(), 16, [3, 0])
    assert sorted(np.concatenate(batches)) == list(range(1000))
    assert sorted(map(len, batches)) == [8] + [16] * 62
    again, other = (buckets.shuffled_batches(rows.lengths(), 16, [3, epoch]) for epoch in (0, 1))
    assert [list(b) for b in again] == [list(b) for b in batches]
    assert [list(b) for b in other] != [list(b) for b in batches]


def test_batches_of_many_texts_have_little_padding():
    """A set of 200 batches is mixed at random, a hundred times as many hardly."""

    def padding(number):
        lengths = np.random.default_rng(0).integers(5, 120, number)
        batches = buckets.shuffled_batches(lengths, 16, 0)
        positions = sum(len(batch) * features.padded(lengths[batch].max()) for batch in batches)
        return 1 - lengths.sum() / positions

    assert padding(16 * 200) > 0.4
    assert 0.2 < padding(16 * 800) < 0.3
    assert padding(16 * 20000) < 0.1


@pytest.mark.parametrize("batch_tokens", [40, 1000, 10**6])
def test_batches_of_as_many_tokens(rows, batch_tokens):
    lengths = rows.lengths()
    batches = buckets.shuffled_batches(lengths, 16, [3, 0], batch_tokens)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    rows_of, longest = (np.array([f(batch) for batch in batches]) for f in (len, lambda b: lengths[b].max()))
    longest = features.padded(longest)
    fits = rows_of * longest <= batch_tokens
    assert np.all(fits | (rows_of == 1))
    # One more of the longest would not fit, but for the last batch.
    assert np.sum((rows_of + 1) * longest <= batch_tokens) <= 1
    assert fits.all() == (batch_tokens >= 1000)


@pytest.mark.parametrize("items", [1, 15, 16, 17, 63, 64, 65, 1000])
def test_a_batch_of_another_size_is_the_only_one(items):
    sizes = sorted(map(len, buckets.shuffled_batches(np.ones(items), 16, 0)))
    assert sizes == sorted([16] * (items // 16) + [items % 16] * (items % 16 > 0))


def test_predict_restores_the_order(rows):
    inputs = {n: keras.Input((None,), dtype="int32", name=n) for n in rows.inputs([0])}
    lengths = keras.ops.sum(inputs["input_mask"], axis=1)
    model = keras.Model(inputs, {"length": lengths, "ids": inputs["input_word_ids"]})
    found = buckets.predict(buckets.runner(model), rows, batch_size=32)
    np.testing.assert_array_equal([row["length"] for row in found], rows.lengths())
    ids = buckets.runner(keras.Model(inputs, inputs["input_word_ids"]))
    pieces = buckets.predict(ids, rows, 32, per_piece=True)
    assert all(map(np.array_equal, pieces, rows.rows["input_word_ids"]))
    assert (
        buckets.predict(buckets.runner(model), Features({"input_word_ids": []}, np.zeros(0, int)), 32) == []
    )


def test_encode(pretrained):
    preprocessor, _ = kba.from_pretrained(pretrained)
    texts = ["the film"] * 1500 + ["great"]
    rows = features.encode(preprocessor, texts).rows
    assert [list(row) for row in rows["input_word_ids"][1499:]] == [[2, 6, 7, 3], [2, 9, 3]]
    found = features.encode(preprocessor, [("the film", "great"), ("the", "plot")])
    assert [list(row) for row in found.rows["input_type_ids"]] == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1]]
    assert len(features.encode(preprocessor, [])) == 0


@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_encode_counts_what_is_cut(pretrained, padding):
    preprocessor = kba.from_pretrained(pretrained, 6)[0].replace(padding=padding)
    fits, cut = "the the the the", "the the the the the"
    assert features.encode(preprocessor, [fits, cut, "film"] * 500).cut == 500
    assert features.encode(preprocessor, [("a a", "the"), ("a", "the"), ("the", "a a a")]).cut == 1


def test_what_fits_is_tokenized_once(pretrained, monkeypatch):
    preprocessor, _ = kba.from_pretrained(pretrained, sequence_length=6)
    seen = []
    monkeypatch.setattr(
        features, "_num_pieces", lambda _, chunk, rows: seen.extend(rows) or np.full(len(rows), 6)
    )
    features.encode(preprocessor, ["the", "film"])
    assert seen == []
    features.encode(preprocessor, ["the", "the " * 9])
    assert seen == [1]


def test_encode_windows(pretrained):
    preprocessor, _ = kba.from_pretrained(pretrained, 6)
    found = features.encode_windows(preprocessor, ["the film", "a a a the the the film film"] * 600, stride=2)
    assert list(found.examples[:4]) == [0, 1, 1, 1]
    assert list(found.examples[-4:]) == [1198, 1199, 1199, 1199]
    assert [list(row) for row in found.rows["input_word_ids"][2:4]] == [
        [2, 5, 6, 6, 6, 3],
        [2, 6, 6, 7, 7, 3],
    ]
    assert list(found.places["starts"][3]) == [0, 10, 14, 18, 23, 0]
    assert len(features.encode_windows(preprocessor, [], stride=2)) == 0
    words = features.encode_windows(preprocessor, [["the", "film"], ["films"]], stride=2)
    assert [list(row) for row in words.places["words"]] == [[-1, 0, 1, -1], [-1, 0, 0, -1]]
    long = [("the the", "film"), ("the", "film film film")]  # there is room for one piece of a first text
    assert features.encode_windows(preprocessor, long, stride=1).cut == 1
