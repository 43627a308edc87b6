"""Vectors of texts, the search among them, and vectors of words."""

import numbers

import keras
import numpy as np

from keras_bert_app.bundled import DEFAULT
from keras_bert_app.data import alignment, buckets, readers
from keras_bert_app.data import features as featuring
from keras_bert_app.handles import from_pretrained, is_loaded
from keras_bert_app.loading import load
from keras_bert_app.task_model import TaskModel
from keras_bert_app.tasks.sentence_similarity import SentenceSimilarity
from keras_bert_app.tasks.token_classification import joined_words, split_texts

TASK = "sentence-similarity"
CHUNK = 4096  # texts whose word pieces, or rows whose scores, are in memory at once
QUERIES = 256  # queries of a block of scores
COMBINATIONS = ("sum", "mean", "concat")


def embed(texts, model=DEFAULT, batch_size=32):
    """A vector for each text.

    Args:
        texts: list of str.
        model: what `finetune("sentence-similarity", ...)` or `load` returned, or any handle of
            `from_pretrained`, or its result `(preprocessor, encoder)`. A run folder of sentence-similarity
            and a model of sentence-transformers bring their pooling and length along; of any other BERT, and
            of a pair, the vector is the mean of the word pieces.
        batch_size: texts that go through the model together.

    Returns:
        float32 array `(texts, hidden)`. The vectors have the length 1, unless the model says otherwise: then
        the cosine of two is their product.

    Raises:
        ValueError: a text is empty or 1 MB and more, or the model is for another task.

    Example:

    ```python
    vectors = kba.embed(["A cat sleeps.", "A dog barks."], "all-MiniLM-L6-v2")  # (2, 384)
    vectors @ vectors.T  # how alike they are, cosines
    ```
    """
    texts = readers.check_texts(texts)
    model = _sentence_encoder(model)
    vectors = np.empty((len(texts), model.model.output_shape[-1]), "float32")
    for start in range(0, len(texts), CHUNK):
        vectors[start : start + CHUNK] = model.outputs(texts[start : start + CHUNK], batch_size)
    return vectors


def _sentence_encoder(model):
    if is_loaded(model):
        preprocessor, encoder = model
        task = SentenceSimilarity()
        model = TaskModel(task, preprocessor, task.build(encoder, 0.0))
    elif not isinstance(model, TaskModel):
        model = load(model, task=TASK)
    if model.task.name != TASK:
        raise ValueError(f"the model is for {model.task.name}: give one for {TASK}, or a pretrained BERT")
    return model


def search(queries, corpus, k=10):
    """The vectors of a corpus that are the most like those of queries, by their cosine; none is missed.

    Args:
        queries: float array `(queries, hidden)`, such as `embed` gives.
        corpus: float array `(corpus, hidden)`; it may be a `np.memmap`, such as
            `np.load("corpus.npy", mmap_mode="r")`, and is read in blocks.
        k: how many to find for each query.

    Returns:
        `(scores, indices)`: cosines, float32 `(queries, k)`, the largest first, and the rows of the corpus
        that have them, int64 `(queries, k)`; of equal ones the first. `k` is at most the size of the corpus.

    Raises:
        ValueError: the shapes do not fit, a vector is not finite, or `k` is not a whole number of at least 1.

    Example:

    >>> scores, indices = search(np.eye(3)[:1], np.array([[0, 1, 0], [3, 4, 0], [2, 0, 0.]]), k=2)
    >>> scores, indices
    (array([[1. , 0.6]], dtype=float32), array([[2, 1]]))
    """
    queries, corpus = np.asarray(queries), np.asanyarray(corpus)
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        raise ValueError(
            f"queries are {queries.shape}, corpus is {corpus.shape}: give (queries, hidden) and "
            "(corpus, hidden) from the same model"
        )
    if not isinstance(k, numbers.Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k={k!r}: give a whole number of at least 1")
    if not len(corpus):
        raise ValueError("the corpus is empty: give at least one vector")
    queries, k = _unit(queries, "queries", 0), min(int(k), len(corpus))
    if not len(queries):
        return np.zeros((0, k), "float32"), np.zeros((0, k), "int64")
    scores = np.full((len(queries), 0), 0, "float32")
    indices = np.full((len(queries), 0), 0, "int64")
    for start in range(0, len(corpus), CHUNK):
        block = _unit(corpus[start : start + CHUNK], "corpus", start).T
        found = [
            _best(queries[row : row + QUERIES] @ block, start, k, scores[row : row + QUERIES],
                  indices[row : row + QUERIES])
            for row in range(0, len(queries), QUERIES)
        ]  # fmt: skip
        scores, indices = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return scores, indices


def _best(block, start, k, scores, indices):
    """The best of a block of scores, and of those found before, which stand first in the corpus."""
    # Of a later block few are greater than the kth that was found before it.
    rows, columns = np.nonzero(block > (scores[:, -1:] if scores.shape[1] == k else -np.inf))
    places = np.arange(len(rows)) - np.searchsorted(rows, rows)
    shape = len(block), places.max(initial=-1) + 1
    found = np.full(shape, -np.inf, "float32"), np.zeros(shape, "int64")
    found[0][rows, places], found[1][rows, places] = block[rows, columns], start + columns
    scores, indices = (np.concatenate(both, axis=1) for both in zip((scores, indices), found, strict=True))
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(indices, order, axis=1)


def _unit(vectors, name, start):
    """The vectors with the length 1, float32."""
    vectors = np.asarray(vectors, "float32")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    wrong = np.flatnonzero(~np.isfinite(lengths[:, 0]))
    if len(wrong):
        raise ValueError(f"row {start + wrong[0]} of {name} is not finite: leave it out")
    return vectors / np.maximum(lengths, 1e-12)


def embed_words(texts, model=DEFAULT, layers=(-1,), combine="sum", batch_size=32):
    """A vector for each word of texts: what it means where it stands.

    A word of several word pieces has the mean of their vectors. A text that is longer than the preprocessor's
    `sequence_length` is read in windows, and each word has its vectors from the one that shows the most
    around it.

    Args:
        texts: list of str, which are split as `preprocessing.words.split_words` does, or of lists of words.
        model: handle of `from_pretrained`, or its result `(preprocessor, encoder)`.
        layers: which of the encoder's `encoder_outputs`, from 0, or from -1 for the last backwards; the last
            four are `(-4, -3, -2, -1)`.
        combine: `"sum"`, `"mean"` or `"concat"` of the layers.
        batch_size: texts, or windows, that go through the model together.

    Returns:
        list with a dict for each text: `words`, list of str; `starts` and `ends`, lists of int, the
        characters from which to which each goes, for a list of words of the words joined with spaces; and
        `vectors`, float32 `(words, hidden)`, with `"concat"` `(words, layers * hidden)`. A word without word
        pieces, such as a control character, has zeros.

    Raises:
        ValueError: there is no such layer or combination, or a text is empty or 1 MB and more.

    Example:

    ```python
    [found] = kba.embed_words(["The fair was not fair."], layers=(-4, -3, -2, -1))
    found["words"], found["vectors"].shape  # ['The', 'fair', 'was', 'not', 'fair', '.'], (6, 256)
    ```

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 5.3, table 7.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    for index, given in enumerate(texts):
        for word in given if isinstance(given, list | tuple) else [given]:
            readers.check_text(word, f"text {index}")
    preprocessor, encoder = model if is_loaded(model) else from_pretrained(model)
    model = _layers(encoder, layers, combine)
    run, width = buckets.runner(model), model.output_shape[-1]
    found = []
    for start in range(0, len(texts), CHUNK):
        found += _words(preprocessor, run, width, texts[start : start + CHUNK], batch_size)
    return found


def _layers(encoder, layers, combine):
    """The model from the encoder's inputs to vectors of word pieces, `(batch, length, width)`."""
    outputs = encoder.output["encoder_outputs"]
    layers = [layers] if isinstance(layers, numbers.Integral) else list(layers)
    known = range(-len(outputs), len(outputs))
    if not layers or not all(isinstance(layer, numbers.Integral) and layer in known for layer in layers):
        raise ValueError(f"layers={layers!r}: give some from {known[0]} to {known[-1]}")
    if combine not in COMBINATIONS:
        raise ValueError(f"combine={combine!r}: one of {', '.join(COMBINATIONS)}")
    chosen = [keras.ops.cast(outputs[layer], "float32") for layer in layers]
    joined = keras.ops.concatenate(chosen, axis=-1) if combine == "concat" else sum(chosen[1:], chosen[0])
    return keras.Model(encoder.input, joined / len(chosen) if combine == "mean" else joined)


def _words(preprocessor, run, width, texts, batch_size):
    """What `embed_words` gives, of some texts."""
    split = iter(split_texts([given for given in texts if isinstance(given, str)]))
    found = [next(split) if isinstance(given, str) else joined_words(list(given)) for given in texts]
    words = [one["words"] for one in found]
    features = featuring.encode_windows(preprocessor, words, max(preprocessor.sequence_length // 2, 1))
    outputs = buckets.predict(run, features, batch_size, per_piece=True)
    for one in found:
        one["vectors"] = np.zeros((len(one["words"]), width), "float32")
    first = alignment.first_pieces(features)
    for example, word, row, piece in zip(*first.values(), strict=True):
        end, places = piece + 1, features.places["words"][row]
        while end < len(places) and places[end] == word:
            end += 1
        found[example]["vectors"][word] = outputs[row][piece:end].mean(axis=0)
    return found
