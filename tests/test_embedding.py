import numpy as np
import pytest
from conftest import CONFIG
from oracle import bert, random_tensors

import keras_bert_app as kba
from keras_bert_app import embedding

TEXT = "The films weren't great, loved\u0001 \u4e2d"


def exact(queries, corpus, k):
    """By sorting all cosines; of equal ones the first."""
    queries, corpus = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, corpus))
    scores = (queries.astype("float32") @ corpus.astype("float32").T).astype("float64")
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


@pytest.mark.parametrize("k", [1, 3, 10, 99])
@pytest.mark.parametrize(("chunk", "rows"), [(7, 2), (64, 256)])
def test_search_is_exact(monkeypatch, chunk, rows, k):
    monkeypatch.setattr(embedding, "CHUNK", chunk)
    monkeypatch.setattr(embedding, "QUERIES", rows)
    random = np.random.default_rng(0)
    queries, corpus = random.normal(size=(5, 9)), random.normal(size=(60, 9))
    scores, indices = kba.search(queries, corpus, k)
    expected_scores, expected = exact(queries, corpus, k)
    assert indices.tolist() == expected.tolist()
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    assert (scores.dtype, indices.dtype) == ("float32", "int64")


def test_of_equal_ones_the_first_is_found(monkeypatch):
    monkeypatch.setattr(embedding, "CHUNK", 8)
    corpus = np.tile(np.eye(3, dtype="float32"), (9, 1))
    scores, indices = kba.search(np.eye(3, dtype="float32")[1:2], corpus, 5)
    assert indices.tolist() == [[1, 4, 7, 10, 13]]
    assert scores.tolist() == [[1.0] * 5]


def test_search_in_a_file(tmp_path):
    corpus = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    np.save(tmp_path / "corpus.npy", corpus)
    mapped = np.load(tmp_path / "corpus.npy", mmap_mode="r")
    assert kba.search(corpus[:3], mapped, 1)[1].tolist() == [[0], [1], [2]]
    assert [found.shape for found in kba.search(corpus[:0], mapped, np.int64(4))] == [(0, 4)] * 2


@pytest.mark.parametrize(
    ("queries", "corpus", "k", "message"),
    [
        (np.ones(3), np.ones((2, 3)), 1, r"queries are \(3,\), corpus is \(2, 3\)"),
        (np.ones((1, 3)), np.ones((2, 4)), 1, "from the same model"),
        (np.ones((1, 3)), np.ones((0, 3)), 1, "the corpus is empty"),
        (np.ones((1, 3)), np.ones((2, 3)), 0, "k=0: give a whole number of at least 1"),
        (np.ones((1, 3)), np.array([[1, 2, 3], [1, np.nan, 0]]), 1, "row 1 of corpus is not finite"),
        (np.full((1, 3), np.inf), np.ones((2, 3)), 1, "row 0 of queries is not finite"),
    ],
)
def test_mistakes_of_search(queries, corpus, k, message):
    with pytest.raises(ValueError, match=message):
        kba.search(queries, corpus, k)


def test_embed(pretrained, run_folder, monkeypatch):
    monkeypatch.setattr(embedding, "CHUNK", 2)
    texts = ["the film", "a", "a very very great film"]
    found = kba.embed(texts, pretrained, batch_size=1)
    model = kba.load(pretrained, task="sentence-similarity")
    np.testing.assert_allclose(found, model.outputs(texts), atol=1e-6)
    assert (found.dtype, found.shape) == ("float32", (3, 10))
    assert kba.embed([], model).shape == (0, 10)
    np.testing.assert_allclose(kba.embed(texts, kba.from_pretrained(pretrained)), found, atol=1e-6)
    with pytest.raises(ValueError, match="text 1: the text is empty"):
        kba.embed(["a", ""], model)
    np.testing.assert_allclose(  # of a run of another task too
        kba.embed(texts, run_folder), kba.embed(texts, kba.from_pretrained(run_folder)), atol=1e-6
    )
    with pytest.raises(ValueError, match="the model is for text-classification: give one for sentence-sim"):
        kba.embed(texts, kba.load(run_folder))


@pytest.mark.parametrize("combine", ["sum", "mean", "concat"])
def test_words_are_what_numpy_gives(pretrained, combine):
    preprocessor, encoder = kba.from_pretrained(pretrained)
    [found] = kba.embed_words(TEXT, (preprocessor, encoder), layers=(-2, 2), combine=combine)
    assert [TEXT[a:b] for a, b in zip(found["starts"], found["ends"], strict=True)] == found["words"]
    assert found["words"] == ["The", "films", "weren't", "great", ",", "loved", "\u4e2d"]
    packed = preprocessor.windows([TEXT], 9)
    ids, starts, words = (packed[name].numpy()[0] for name in ("input_word_ids", "starts", "words"))
    layers, _ = bert(
        random_tensors(), ids, np.ones(len(ids)), np.zeros(len(ids), int), CONFIG["num_attention_heads"]
    )
    chosen = layers[2], layers[3]
    expected = np.concatenate(chosen, axis=1) if combine == "concat" else sum(chosen)
    expected = expected / 2 if combine == "mean" else expected
    for start, end, vector in zip(found["starts"], found["ends"], found["vectors"], strict=True):
        pieces = (words >= 0) & (starts >= start) & (starts < end)
        np.testing.assert_allclose(vector, expected[pieces].mean(axis=0), atol=1e-5)


def test_many_texts_are_words_of_one_graph(pretrained, monkeypatch):
    made = []
    runner = embedding.buckets.runner
    monkeypatch.setattr(embedding.buckets, "runner", lambda model: made.append(model) or runner(model))
    monkeypatch.setattr(embedding, "CHUNK", 2)
    texts = [["the", "film"], ["a"], ["loved", "films"], ["the"], ["a", "a"]]
    found = kba.embed_words(texts, pretrained)
    assert [one["words"] for one in found] == texts
    assert len(made) == 1


def test_words_of_long_texts_and_of_lists(pretrained):
    preprocessor, encoder = kba.from_pretrained(pretrained, 9)
    words = ["films", "the", "\u0001", "loved", "a"] * 9
    long, short = kba.embed_words([words, ["the", "film"]], (preprocessor, encoder), batch_size=3)
    assert long["words"] == words
    assert all(type(end) is int for end in long["ends"])
    assert [(" ".join(words))[a:b] for a, b in zip(long["starts"], long["ends"], strict=True)] == words
    lengths = np.abs(long["vectors"]).sum(axis=1)
    assert [bool(length) for length in lengths] == [word != "\u0001" for word in words]
    [alone] = kba.embed_words([["the", "film"]], pretrained)
    np.testing.assert_allclose(short["vectors"], alone["vectors"], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ()}, r"layers=\[\]: give some from -3 to 2"),
        ({"layers": (3,)}, r"layers=\[3\]: give some from -3 to 2"),
        ({"layers": (0.5,)}, r"layers=\[0.5\]"),
        ({"combine": "max"}, "combine='max': one of sum, mean, concat"),
        ({"texts": ["a", " "]}, "text 1: the text is empty"),
        ({"texts": [["a", ""]]}, "text 0: the text is empty"),
    ],
)
def test_mistakes_of_embed_words(pretrained, options, message):
    with pytest.raises(ValueError, match=message):
        kba.embed_words(**{"texts": ["a"], "model": pretrained, **options})
