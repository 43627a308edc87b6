"""Which texts go together: at random, and of many texts those of like length."""

import keras
import numpy as np

from keras_bert_app.data.features import padded
from keras_bert_app.lean import lean_models

GROUP = 50  # batches that are sorted by length together at most; more gives less padding, less mixing
GROUPS = 200  # of them an epoch of more batches has at least: few texts are mixed at random


def shuffled_batches(lengths, batch_size, seed, batch_tokens=None):
    """Which items go together in one epoch: random, but of like length within a batch if there are many.

    Args:
        lengths: int array `(items,)`, word pieces of each.
        batch_size: items of a batch; one batch may be smaller.
        seed: int or sequence of ints; the same seed gives the same batches.
        batch_tokens: None, or word pieces and padding that a batch has at most, in the place of
            `batch_size`: the shorter its items, the more it has of them, and one at least.

    Returns:
        list of int arrays; every item is in exactly one.
    """
    random, positions = np.random.default_rng(seed), padded(lengths)
    order = random.permutation(len(positions))
    mean = batch_size if batch_tokens is None else batch_tokens / positions.mean()  # items of a batch
    group_size = min(max(len(order) / mean // GROUPS, 1), GROUP)
    size = max(round(mean * group_size), 1)
    batches, group = [], order[:0]
    for start in range(0, len(order), size):
        group = np.concatenate([group, order[start : start + size]])
        group = group[np.argsort(-lengths[group], kind="stable")]
        while len(group):
            number = batch_size if batch_tokens is None else max(batch_tokens // positions[group[0]], 1)
            if number > len(group) and start + size < len(order):
                break  # what is left goes with the next group
            batches.append(group[:number])
            group = group[number:]
    return [batches[i] for i in random.permutation(len(batches))]


def batches_of_epochs(features, epochs, batch_size, batch_tokens, seed, least):
    """The batches of every epoch of a training.

    Args:
        features: `Features` of the examples.
        epochs: how many.
        batch_size, batch_tokens: see `shuffled_batches`; here of all rows of an item.
        seed: int.
        least: items that a batch must have room for.

    Returns:
        list of what `shuffled_batches` gives.

    Raises:
        ValueError: `batch_tokens` has no room for the longest items.
    """
    lengths, tokens = features.item_lengths(), None
    if batch_tokens is not None:
        tokens = batch_tokens // features.group
        needed = least * padded(lengths.max())
        if tokens < needed:
            raise ValueError(
                f"batch_tokens={batch_tokens}: the longest texts need {needed * features.group}; give as "
                "many at least, or a smaller sequence_length"
            )
    return [shuffled_batches(lengths, batch_size, [seed, epoch], tokens) for epoch in range(epochs)]


def sorted_batches(lengths, batch_size):
    """Items from long to short, for evaluation: the least padding there can be."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def runner(model, traced=True):
    """What a model returns in inference, as a function of its inputs.

    Args:
        model: `keras.Model` from the encoder's inputs to a tensor, or a structure of them; what it returns
            must not depend on padding. Or a `Runtime`.
        traced: False to call it operation by operation, which for one batch takes less time than its graph.

    Returns:
        A function from a dict of arrays to arrays. With TensorFlow, if `traced`, it is traced once, for all
        lengths, with the layers as they are now.
    """
    is_keras = isinstance(model, keras.Model) and isinstance(model.input, dict)
    if keras.config.backend() != "tensorflow" or not is_keras:
        return model.predict_on_batch
    if not traced:
        return lambda inputs: keras.tree.map_structure(
            keras.ops.convert_to_numpy, model({name: inputs[name] for name in model.input}, training=False)
        )
    import tensorflow as tf

    signature = {name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in model.input.items()}

    @lean_models()
    def infer(inputs):
        return model(inputs, training=False)

    graph = tf.function(infer, input_signature=[signature], autograph=False)

    def run(inputs):
        outputs = graph({name: inputs[name] for name in signature})
        return keras.tree.map_structure(lambda tensor: tensor.numpy(), outputs)

    return run


def predict(run, features, batch_size, per_piece=False):
    """What a model returns for every row, in the order of the rows.

    Args:
        run: see `runner`; its outputs are `(batch, ...)`.
        features: `Features`.
        batch_size: rows of a batch.
        per_piece: True if the second axis is that of the word pieces.

    Returns:
        A list with the output for each row, arrays `(...)`; with `per_piece` without that of padding.

    Raises:
        ValueError: `batch_size` is not a whole number of at least 1.
    """
    if type(batch_size) is not int or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r}: give a whole number of at least 1")
    lengths = features.lengths()
    found = [None] * len(lengths)
    for rows in sorted_batches(lengths, batch_size):
        outputs = run(features.inputs(rows))
        for place, row in enumerate(rows):
            end = lengths[row] if per_piece else None
            found[row] = keras.tree.map_structure(
                lambda output, at=place, end=end: output[at] if end is None else output[at, :end].copy(),
                outputs,
            )
    return found
