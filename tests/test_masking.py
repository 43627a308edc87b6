import keras
import numpy as np
import pytest
from conftest import VOCABULARY, run_python

import keras_bert_app as kba
from keras_bert_app.preprocessing.masking import MaskedLMMasker

SPECIAL = VOCABULARY[:5]
PAD, UNK, CLS, SEP, MASK = range(5)
# Every third token goes on with a word.
LARGE = [*SPECIAL, *(f"##s{n}" if n % 3 == 2 else f"w{n}" for n in range(4000))]
NEW = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")


def pack(rows, length):
    """What `BertPreprocessor` makes of rows of ids."""
    ids, mask = np.zeros((2, len(rows), length), "int32")
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    types = mask * (np.arange(length) > length // 2)
    return {"input_word_ids": ids, "input_mask": mask, "input_type_ids": types}


def random_rows(random, number, length, vocabulary=LARGE):
    """Pairs of segments of random pieces, some of them [UNK], as long as `length` and shorter."""
    rows = []
    for _ in range(number):
        size = length if random.random() < 0.8 else random.integers(5, length)
        row = random.integers(5, len(vocabulary), size)
        row[random.random(size) < 0.02] = UNK
        row[0], row[random.integers(1, size - 1)], row[-1] = CLS, SEP, SEP
        rows.append(row)
    return pack(rows, length)


def words_of(row, mask, vocabulary):
    """The places of each word of a row, a list of lists."""
    words, inside = [], False
    for place, (piece, real) in enumerate(zip(row, mask, strict=True)):
        token = vocabulary[piece]
        if not real or token in SPECIAL:
            inside = False
        elif inside and token.startswith("##"):
            words[-1].append(place)
        else:
            words.append([place])
            inside = True
    return words


def run(masker, packed):
    return {name: keras.ops.convert_to_numpy(value) for name, value in masker(packed).items()}


def check(packed, masked, vocabulary, most, whole_word=True):
    """Compares a masked batch with the rules; returns the selected pieces and what became of them."""
    given, found = packed["input_word_ids"], masked["input_word_ids"]
    assert set(masked) == {*packed, *NEW}
    for name in set(packed) - {"input_word_ids"}:
        np.testing.assert_array_equal(masked[name], packed[name])
    positions, ids, weights = (masked[name] for name in NEW)
    assert {positions.dtype, ids.dtype, found.dtype} == {np.dtype("int32")}
    assert weights.dtype == np.dtype("float32")
    assert positions.shape == ids.shape == weights.shape == (len(given), most)
    before, after = [], []
    for row, mask, now, place, was, weight in zip(
        given, packed["input_mask"], found, positions, ids, weights, strict=True
    ):
        count = int(weight.sum())
        assert weight.tolist() == [1.0] * count + [0.0] * (most - count)
        selected = place[:count].tolist()
        assert selected == sorted(set(selected))
        assert not place[count:].any()
        assert not was[count:].any()
        assert was[:count].tolist() == row[selected].tolist()
        words = words_of(row, mask, vocabulary)
        assert set(selected) <= {place for word in words for place in word}
        if whole_word:
            assert all(len(set(word) & set(selected)) in (0, len(word)) for word in words)
        others = np.setdiff1d(np.arange(len(row)), selected)
        assert now[others].tolist() == row[others].tolist()
        before += row[selected].tolist()
        after += now[selected].tolist()
    return np.array(before, int), np.array(after, int)


@pytest.mark.parametrize(("whole_word", "seed"), [(True, 3), (False, 5)])
def test_the_shares_over_a_million_pieces(whole_word, seed):
    # With a seed the numbers are always the same ones.
    random = np.random.default_rng(seed)
    masker = MaskedLMMasker(LARGE, whole_word=whole_word, seed=seed)
    maskable, before, after = 0, [], []
    while maskable < 1_000_000:
        packed = random_rows(random, 512, 128)
        masked = run(masker, packed)
        used = masked["masked_lm_weights"] > 0
        rows = np.repeat(np.arange(512), used.sum(axis=1))
        maskable += (packed["input_word_ids"] >= 5).sum()
        before.append(masked["masked_lm_ids"][used])
        after.append(masked["input_word_ids"][rows, masked["masked_lm_positions"][used]])
    check(packed, masked, LARGE, 20, whole_word)  # the last batch, the rest would take long
    before, after = np.concatenate(before), np.concatenate(after)
    assert abs(len(before) / maskable - 0.15) < 0.002
    assert abs((after == MASK).mean() - 0.8) < 0.002
    by_chance = 0.1 / (len(LARGE) - 5)  # another piece that is the same
    assert abs((after == before).mean() - 0.1 - by_chance) < 0.002
    assert abs(((after != before) & (after != MASK)).mean() - 0.1 + by_chance) < 0.002
    assert after.min() == MASK


@pytest.mark.parametrize("whole_word", [True, False])
def test_rows_of_every_length(whole_word):
    rows, number = [[], [CLS, SEP], [UNK] * 9, [CLS, 7, SEP], [7], [CLS, *range(5, 14), SEP]], 1000
    rows += [[CLS, *range(7, 7 + size), SEP] for size in range(2, 12)]
    packed = pack(rows * number, 13)
    masked = run(MaskedLMMasker(VOCABULARY, whole_word=whole_word, seed=1), packed)
    check(packed, masked, VOCABULARY, 2, whole_word)
    counts = masked["masked_lm_weights"].reshape(number, len(rows), 2).sum(axis=2)
    for row, count in zip(rows, counts.T, strict=True):
        # None is a whole number, so that there are sometimes fewer and sometimes more.
        wanted = 0.15 * sum(piece >= 5 for piece in row)
        assert set(count) == ({np.floor(wanted), np.ceil(wanted)} if wanted else {0})
        assert abs(count.mean() - wanted) < 4 * 0.5 / number**0.5


@pytest.mark.parametrize("whole_word", [True, False])
def test_every_piece_has_the_same_chance(whole_word):
    pieces = [5, 9, 6, 7, SEP, 11, 8] if whole_word else [5, 30, 6, 7, SEP, 31, 8]
    packed = pack([[CLS, *pieces, SEP]] * 20_000, 11)
    masked = run(MaskedLMMasker(VOCABULARY, whole_word=whole_word, seed=2), packed)
    used = masked["masked_lm_weights"] > 0
    counts = np.bincount(masked["masked_lm_positions"][used], minlength=11)
    wanted = 20_000 * 0.15 * np.array([0, 1, 1, 1, 1, 0, 1, 1, 0, 0, 0])
    assert (abs(counts - wanted) <= 5 * np.sqrt(wanted)).all()


def test_a_word_that_was_cut_is_a_word():
    # ##s, ##ed and ##ing after [CLS], [SEP] and [UNK], and one that goes on: ##ed ##ing.
    row = [CLS, 30, 6, 31, SEP, 31, 32, 7, UNK, 32, 30, SEP]
    words = [[1], [2, 3], [5, 6], [7], [9, 10]]
    packed = pack([row] * 5000, 13)
    assert words_of(packed["input_word_ids"][0], packed["input_mask"][0], VOCABULARY) == words
    masked = run(MaskedLMMasker(VOCABULARY, 0.2, seed=4), packed)
    check(packed, masked, VOCABULARY, 3)
    selected = [
        tuple(places[weights > 0])
        for places, weights in zip(masked["masked_lm_positions"], masked["masked_lm_weights"], strict=True)
    ]
    assert set(map(tuple, words)) <= set(selected)  # each is selected alone


@pytest.mark.parametrize(("most", "expected"), [(None, 5), (1, 1), (2, 2), (3, 3), (7, 7), (40, 29)])
def test_the_cap_leaves_words_whole(most, expected):
    random = np.random.default_rng(7)
    rows = random_rows(random, 303, 29)
    # Long words: nearly all pieces go on.
    ids = rows["input_word_ids"]
    ids[(ids >= 5) & (random.random(ids.shape) < 0.6)] = 7
    masker = MaskedLMMasker(LARGE, 0.15 if most is None else 0.5, max_predictions=most, seed=6)
    masked = run(masker, rows)
    assert masker.most_predictions(29) == expected
    check(rows, masked, LARGE, expected)
    assert most == 40 or masked["masked_lm_weights"].sum(axis=1).max() == expected


@pytest.mark.parametrize(("length", "most"), [(1, 1), (7, 2), (20, 3), (40, 6), (128, 20), (512, 77)])
def test_most_predictions(length, most):
    import tensorflow as tf

    masker = MaskedLMMasker(VOCABULARY)
    assert masker.most_predictions(length) == most
    assert int(masker.most_predictions(tf.constant(length))) == most
    assert int(MaskedLMMasker(VOCABULARY, max_predictions=5).most_predictions(tf.constant(length))) == min(
        length, 5
    )


def test_seeds():
    packed = random_rows(np.random.default_rng(8), 13, 31)
    one, two, three = (
        MaskedLMMasker(LARGE, seed=1),
        MaskedLMMasker(LARGE, seed=1),
        MaskedLMMasker(LARGE, seed=2),
    )
    first, second = run(one, packed), run(one, packed)
    for expected in (first, second):
        for name, value in run(two, packed).items():
            np.testing.assert_array_equal(value, expected[name])
    assert (first["input_word_ids"] != second["input_word_ids"]).any()
    assert (first["input_word_ids"] != run(three, packed)["input_word_ids"]).any()


def test_random_pieces_are_any_but_special_ones():
    packed = random_rows(np.random.default_rng(9), 3000, 37, VOCABULARY)
    masker = MaskedLMMasker(VOCABULARY, 0.4, 0.0, 1.0, whole_word=False)
    before, after = check(packed, run(masker, packed), VOCABULARY, 15, whole_word=False)
    counts = np.bincount(after, minlength=len(VOCABULARY))
    assert counts[:5].tolist() == [0] * 5
    wanted = len(after) / (len(VOCABULARY) - 5)
    assert (abs(counts[5:] - wanted) < 5 * wanted**0.5).all()
    assert abs((before == after).sum() - wanted) < 5 * wanted**0.5  # not tied to what was there


@pytest.mark.parametrize(("mask", "random"), [(1.0, 0.0), (0.0, 0.0), (0.5, 0.5)])
def test_other_rates(mask, random):
    packed = random_rows(np.random.default_rng(10), 300, 41)
    before, after = check(packed, run(MaskedLMMasker(LARGE, 0.3, mask, random), packed), LARGE, 13)
    assert abs((after == MASK).mean() - mask) < (0.05 if random else 1e-9)
    assert abs((after == before).mean() - (1 - mask - random)) < 0.01


def test_special_tokens_anywhere_in_the_vocabulary():
    tokens = ["a", "##b", "[MASK]", "c", "[SEP]", "[PAD]", "##", "[CLS]", "[UNK]"]
    packed = {
        "input_word_ids": np.array([[7, 0, 1, 3, 6, 8, 4, 5, 5]] * 999, "int32"),
        "input_mask": np.array([[1, 1, 1, 1, 1, 1, 1, 0, 0]] * 999, "int32"),
    }
    masked = run(MaskedLMMasker(tokens, 0.5, 0.5, 0.5), packed)
    assert set(masked["masked_lm_positions"][masked["masked_lm_weights"] > 0]) == {1, 2, 3, 4}
    assert set(masked["input_word_ids"][:, 1:5].ravel()) == {0, 1, 2, 3, 6}
    np.testing.assert_array_equal(masked["input_word_ids"][:, [0, 5, 6, 7, 8]], [[7, 8, 4, 5, 5]] * 999)
    alone = masked["input_word_ids"][:, 3] != 3  # "##" is a word of its own
    assert (alone != (masked["input_word_ids"][:, 4] != 6)).any()


def test_vocabularies_from_file_and_tokenizer(tmp_path):
    from keras_bert_app.preprocessing.tokenizer import BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(LARGE))
    packed = random_rows(np.random.default_rng(11), 3, 31)
    expected = run(MaskedLMMasker(LARGE), packed)
    for given in (tmp_path / "vocab.txt", str(tmp_path / "vocab.txt"), tuple(LARGE), BertTokenizer(LARGE)):
        masker = MaskedLMMasker(given)
        assert masker.vocabulary == tuple(LARGE)
        for name, value in run(masker, packed).items():
            np.testing.assert_array_equal(value, expected[name])


def test_other_types_of_integers_and_other_features():
    packed = random_rows(np.random.default_rng(12), 3, 31)
    more = {
        **{name: value.astype("int64") for name, value in packed.items()},
        "next_sentence_labels": np.array([0, 1, 1], "int32"),
        "weights": np.array([0.1, 1 / 3, 7.7], "float32"),
    }
    expected, found = run(MaskedLMMasker(LARGE), packed), run(MaskedLMMasker(LARGE), more)
    for name in ("input_word_ids", *NEW):
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].dtype == expected[name].dtype
    np.testing.assert_array_equal(found["weights"], more["weights"])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float16"])
def test_precision_changes_nothing(policy):
    packed = random_rows(np.random.default_rng(13), 13, 31)
    packed["weights"] = np.linspace(0, 1, 13, dtype="float32")
    expected = run(MaskedLMMasker(LARGE), packed)
    old = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        maskers = [MaskedLMMasker(LARGE)]
        symbolic = maskers[0](functional_inputs(31))
        assert symbolic["masked_lm_weights"].dtype == "float32"
        assert symbolic["input_word_ids"].dtype == "int32"
    finally:
        keras.config.set_dtype_policy(old)
    for masker in (*maskers, MaskedLMMasker(LARGE, dtype=policy)):
        for name, value in run(masker, packed).items():
            assert value.dtype == expected[name].dtype
            np.testing.assert_array_equal(value, expected[name])


# In models and data sets


def functional_inputs(length):
    names = ("input_word_ids", "input_mask", "input_type_ids")
    return {name: keras.Input((length,), dtype="int32", name=name) for name in names}


def test_keras_round_trip(tmp_path):
    inputs = functional_inputs(31)
    masker = MaskedLMMasker(LARGE, 0.2, 0.5, 0.3, whole_word=False, max_predictions=5, seed=9, name="hide")
    model = keras.Model(inputs, masker(inputs))
    assert {name: value.shape for name, value in model.output.items() if name in NEW} == dict.fromkeys(
        NEW, (None, 5)
    )
    assert all(model.input[name] is inputs[name] for name in inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects=kba.custom_objects())
    packed = random_rows(np.random.default_rng(14), 17, 31)
    config = loaded.get_layer("hide").get_config()
    assert config == masker.get_config()
    assert (config["max_predictions"], config["whole_word"], config["seed"]) == (5, False, 9)
    for _ in range(2):
        given = run(model, packed)
        before, after = check(packed, given, LARGE, 5, whole_word=False)
        assert (before != after).any()
        for name, value in run(loaded, packed).items():
            np.testing.assert_array_equal(value, given[name])


def test_a_model_of_rows_of_any_length():
    inputs = functional_inputs(None)
    masker = MaskedLMMasker(LARGE, seed=15)
    outputs = masker(inputs)
    assert outputs["masked_lm_positions"].shape == outputs["input_mask"].shape == (None, None)
    hidden = keras.layers.Embedding(len(LARGE), 3)(outputs["input_word_ids"])
    model = keras.Model(inputs, {**outputs, "hidden": hidden})
    random = np.random.default_rng(15)
    for length, most in ((31, 5), (7, 2), (20, 3)):
        packed = random_rows(random, 5, length)
        found = model.predict_on_batch(packed)
        assert found.pop("hidden").shape == (5, length, 3)
        check(packed, found, LARGE, most)


@pytest.mark.parametrize("most", [None, 4])
def test_a_graph_for_rows_of_any_length(most):
    import tensorflow as tf

    masker = MaskedLMMasker(LARGE, max_predictions=most, seed=16)
    names = ("input_word_ids", "input_mask", "input_type_ids")
    signature = {name: tf.TensorSpec((None, None), "int32") for name in names}
    graph = tf.function(masker, input_signature=[signature])
    eager = MaskedLMMasker(LARGE, max_predictions=most, seed=16)
    random = np.random.default_rng(16)
    for number, length in ((3, 31), (5, 7), (2, 128), (4, 20)):
        packed = random_rows(random, number, length)
        expected = run(eager, packed)
        for name, value in graph(packed).items():
            np.testing.assert_array_equal(value, expected[name])
    assert graph.experimental_get_tracing_count() == 1


def test_in_a_data_set_padded_to_the_longest():
    import tensorflow as tf

    random = np.random.default_rng(17)
    rows = [random.integers(5, len(LARGE), size).astype("int32") for size in (3, 29, 7, 1, 12, 5, 40)]
    data = tf.data.Dataset.from_generator(lambda: rows, output_signature=tf.TensorSpec([None], "int32"))
    data = data.padded_batch(3)
    data = data.map(lambda ids: {"input_word_ids": ids, "input_mask": tf.cast(ids > 0, "int32")})
    masked = data.map(MaskedLMMasker(LARGE, seed=17), num_parallel_calls=tf.data.AUTOTUNE)
    epochs = []
    for _ in range(2):
        found = [{name: value.numpy() for name, value in batch.items()} for batch in masked]
        assert len(found) == 3
        for packed, batch, most in zip(data.as_numpy_iterator(), found, (5, 2, 6), strict=True):
            check(packed, batch, LARGE, most)
        epochs.append(found)
    assert any((a["input_word_ids"] != b["input_word_ids"]).any() for a, b in zip(*epochs, strict=True))


BACKEND = """
import os, sys
if os.environ["KERAS_BACKEND"] == "jax":
    sys.modules["tensorflow"] = None
import keras, numpy as np
import test_masking as t

assert keras.config.backend() == os.environ["KERAS_BACKEND"]
assert sys.modules.get("tensorflow") is None
packed = t.random_rows(np.random.default_rng(1), 101, 31)
masker = t.MaskedLMMasker(t.LARGE, seed=1)
inputs = t.functional_inputs(None)
model = keras.Model(inputs, masker(inputs))
model.save(sys.argv[1])
first, second = t.run(masker, packed), t.run(masker, packed)
before, after = t.check(packed, first, t.LARGE, 5)
share = len(before) / (packed["input_word_ids"] >= 5).sum()
assert abs(share - 0.15) < 0.01, share
assert abs((after == t.MASK).mean() - 0.8) < 0.06
assert (first["input_word_ids"] != second["input_word_ids"]).any()
again = t.run(keras.saving.load_model(sys.argv[1]), packed)
assert all((again[name] == first[name]).all() for name in first)
found = model.predict_on_batch(packed)
t.check(packed, found, t.LARGE, 5)
print("same")
"""


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.slow)])
def test_other_backends_without_tensorflow(backend, tmp_path):
    pytest.importorskip(backend, reason=f"the package {backend} is not installed")
    done = run_python(BACKEND, tmp_path / "model.keras", KERAS_BACKEND=backend)
    assert done.stdout.strip() == "same", done.stderr


# What goes wrong


@pytest.mark.parametrize("rate", [0, 1, 1.5, -0.1, float("nan")])
def test_selection_rates(rate):
    with pytest.raises(ValueError, match=f"mask_selection_rate={rate}: give a share above 0 and below 1"):
        MaskedLMMasker(VOCABULARY, mask_selection_rate=rate)


@pytest.mark.parametrize("name", ["mask_token_rate", "random_token_rate"])
@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rates(name, rate):
    with pytest.raises(ValueError, match=f"{name}={rate}: give a share from 0 to 1"):
        MaskedLMMasker(VOCABULARY, **{name: rate})


def test_rates_of_more_than_one():
    with pytest.raises(
        ValueError, match=r"mask_token_rate=0.8 and random_token_rate=0.3 are more than 1 together: lower"
    ):
        MaskedLMMasker(VOCABULARY, random_token_rate=0.3)
    MaskedLMMasker(VOCABULARY, mask_token_rate=0.7, random_token_rate=0.3)


@pytest.mark.parametrize("most", [0, -3, 2.0, True, "7"])
def test_max_predictions(most):
    with pytest.raises(ValueError, match=f"max_predictions={most!r}: give a whole number of at least 1"):
        MaskedLMMasker(VOCABULARY, max_predictions=most)


def test_vocabularies_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="the vocabulary has special tokens alone: there is nothing to mask"):
        MaskedLMMasker(SPECIAL)
    with pytest.raises(ValueError, match=r"the vocabulary lacks \[MASK\]: it is not the vocabulary of"):
        MaskedLMMasker(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])
    with pytest.raises(FileNotFoundError, match=r"there is no vocabulary .*none.txt"):
        MaskedLMMasker(tmp_path / "none.txt")


def test_no_vocabulary(tmp_path):
    masker = MaskedLMMasker.from_config(MaskedLMMasker(VOCABULARY).get_config())
    message = "the masker has no vocabulary, which a configuration does not hold: give"
    with pytest.raises(ValueError, match=message):
        masker(pack([[CLS, 7, SEP]], 5))
    with pytest.raises(ValueError, match=message):
        masker.save_assets(tmp_path)
