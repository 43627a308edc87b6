"""Batches of texts of like length, so that little of a batch is padding."""

import numpy as np

CHUNK = 1024  # texts tokenized in one call
INPUTS = ("input_word_ids", "input_mask", "input_type_ids")
GROUP = 50  # batches that are sorted by length together; more gives less padding, less mixing
MULTIPLE = 8  # lengths are rounded up to it: vector units are used whole and JAX compiles less often


def encode(preprocessor, texts):
    """Tokenizes and packs `texts` once, for all epochs.

    Args:
        preprocessor: `BertPreprocessor`.
        texts: list of str, or of tuples for pairs.

    Returns:
        dict of `input_word_ids` and `input_type_ids`, each a list of int32 arrays `(pieces,)`
        without padding.
    """
    rows = {"input_word_ids": [], "input_type_ids": []}
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        chunk = tuple(map(list, zip(*chunk, strict=True))) if isinstance(chunk[0], tuple) else chunk
        packed = {name: tensor.numpy() for name, tensor in preprocessor(chunk).items()}
        lengths = packed["input_mask"].sum(axis=1)
        for name, arrays in rows.items():
            arrays += [row[:length].copy() for row, length in zip(packed[name], lengths, strict=True)]
    return rows


def pad(rows, indices):
    """The inputs of the encoder for some rows.

    Args:
        rows: from `encode`.
        indices: `(batch,)`, which rows.

    Returns:
        dict of int32 arrays `(batch, length)`: `input_word_ids`, `input_mask`, `input_type_ids`.
    """
    longest = max(len(rows["input_word_ids"][i]) for i in indices)
    shape = (len(indices), -(-longest // MULTIPLE) * MULTIPLE)
    batch = {name: np.zeros(shape, "int32") for name in INPUTS}  # [PAD] is masked, its id is of no effect
    for row, index in enumerate(indices):
        length = len(rows["input_word_ids"][index])
        batch["input_mask"][row, :length] = 1
        for name, arrays in rows.items():
            batch[name][row, :length] = arrays[index]
    return batch


def shuffled_batches(lengths, batch_size, seed):
    """Which rows go together in one epoch: random, but of like length within a batch.

    Args:
        lengths: `(rows,)`, word pieces of each row.
        batch_size: rows of a batch; one batch may be smaller.
        seed: int or sequence of ints; the same seed gives the same batches.

    Returns:
        list of int arrays; every row is in exactly one.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), GROUP * batch_size):
        group = order[start : start + GROUP * batch_size]
        group = group[np.argsort(-np.asarray(lengths)[group], kind="stable")]
        batches += [group[i : i + batch_size] for i in range(0, len(group), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def sorted_batches(lengths, batch_size):
    """Rows from long to short, for evaluation: the least padding there can be."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def predict(model, rows, batch_size):
    """What `model` returns for every row, in the order of the rows.

    Args:
        model: `keras.Model` from the encoder's inputs to one tensor `(batch, ...)`.
        rows: from `encode`.
        batch_size: rows of a batch.

    Returns:
        array `(rows, ...)`.
    """
    lengths = [len(row) for row in rows["input_word_ids"]]
    batches = sorted_batches(lengths, batch_size)
    outputs = np.concatenate([model.predict_on_batch(pad(rows, indices)) for indices in batches])
    restored = np.empty_like(outputs)
    restored[np.concatenate(batches)] = outputs
    return restored
