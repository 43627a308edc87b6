"""Texts as rows of word pieces, and which example each row is of."""

import dataclasses

import numpy as np

CHUNK = 1024  # texts tokenized in one call
INPUTS = ("input_word_ids", "input_mask", "input_type_ids")
PLACES = ("starts", "ends", "words")
MULTIPLE = 8  # lengths are rounded up to it: for each there is something to compile, on JAX the whole step


@dataclasses.dataclass
class Features:
    """Tokenized examples, without padding.

    A model answers rows of word pieces. An example has one row, one for each of its windows, or one for each
    of several texts. A training step goes through items, which are rows, or so many that follow each other.

    Args:
        rows: dict of `input_word_ids` and `input_type_ids`, each a list of int32 arrays `(pieces,)`.
        examples: int array `(rows,)`, the index of the example that each row is of, ascending.
        places: dict of `starts`, `ends` and `words` of each piece, as `rows`, see `BertPreprocessor`;
            empty without windows.
        cut: number of examples that do not fit and have lost word pieces.
        kept: dict of what a task keeps for its answers.
        group: rows of an item.
        extras: dict of further inputs that the answers need and a training does not, each a list of int
            arrays `(any,)`.
    """

    rows: dict
    examples: np.ndarray
    places: dict = dataclasses.field(default_factory=dict)
    cut: int = 0
    kept: dict = dataclasses.field(default_factory=dict)
    group: int = 1
    extras: dict = dataclasses.field(default_factory=dict)

    def __len__(self):
        return len(self.examples) // self.group

    def lengths(self):
        """The word pieces of each row, int array `(rows,)`."""
        return np.array([len(row) for row in self.rows["input_word_ids"]], int)

    def item_lengths(self):
        """The word pieces of the longest row of each item, int array `(items,)`."""
        return self.lengths().reshape(-1, self.group).max(axis=1)

    def amounts(self, batches):
        """What batches of items are made of, see `progress.speeds`.

        Args:
            batches: list of `(batch,)`, which items.

        Returns:
            dict of int arrays `(batches,)`: `examples`, `tokens`, and `positions`, tokens and padding.
        """
        lengths = self.lengths().reshape(-1, self.group)
        return {
            "examples": np.array([len(items) for items in batches]),
            "tokens": np.array([lengths[items].sum() for items in batches]),
            "positions": np.array([lengths[items].size * padded(lengths[items].max()) for items in batches]),
        }

    def inputs(self, rows):
        """The inputs of the encoder for some rows.

        Args:
            rows: `(batch,)`, which rows.

        Returns:
            dict of int32 arrays `(batch, length)`: `input_word_ids`, `input_mask`, `input_type_ids`. With
            `extras` also these, `(batch, most)`, padded with 0 to a power of two.
        """
        longest = max(len(self.rows["input_word_ids"][row]) for row in rows)
        shape = (len(rows), padded(longest))
        batch = {name: np.zeros(shape, "int32") for name in INPUTS}  # [PAD] is masked, its id has no effect
        for place, row in enumerate(rows):
            length = len(self.rows["input_word_ids"][row])
            batch["input_mask"][place, :length] = 1
            for name, arrays in self.rows.items():
                batch[name][place, :length] = arrays[row]
        for name, arrays in self.extras.items():
            most = max(1, *(len(arrays[row]) for row in rows))
            batch[name] = np.zeros((len(rows), 1 << (most - 1).bit_length()), "int32")
            for place, row in enumerate(rows):
                batch[name][place, : len(arrays[row])] = arrays[row]
        return batch

    def batch(self, items, targets):
        """What a training step takes for some items.

        Args:
            items: `(batch,)`, which items.
            targets: what the outputs shall be, and weights or None: for each item, an array `(items, ...)`
                or a list of arrays `(pieces,)`.

        Returns:
            `(inputs, targets)`, or `(inputs, targets, weights)` if there are weights. The inputs are of all
            rows of the items, `(batch * group, length)`. What has an entry for each word piece is padded with
            0, as the inputs are.
        """
        rows = (np.asarray(items)[:, None] * self.group + np.arange(self.group)).reshape(-1)
        inputs = {name: array for name, array in self.inputs(rows).items() if name in INPUTS}
        length = inputs["input_word_ids"].shape[1]

        def pick(values):
            if isinstance(values, np.ndarray):
                return values[items]
            padded = np.zeros((len(items), length), values[0].dtype)
            for row, item in enumerate(items):
                padded[row, : len(values[item])] = values[item]
            return padded

        return (inputs, *(pick(values) for values in targets if values is not None))


def padded(length):
    """A length, or an array of them, with its padding."""
    return -(-length // MULTIPLE) * MULTIPLE


def encode(preprocessor, texts):
    """Tokenizes and packs texts once, for all epochs; what is too long is cut.

    Args:
        preprocessor: `BertPreprocessor`.
        texts: list of str, or of tuples of str for pairs.

    Returns:
        `Features` with one row for each text.
    """
    rows, cut = _empty(INPUTS[::2]), 0
    for start in range(0, len(texts), CHUNK):
        chunk = as_segments(texts[start : start + CHUNK])
        lengths = _append(_as_arrays(preprocessor(chunk)), rows)
        full = np.flatnonzero(lengths == preprocessor.sequence_length)
        if len(full):
            cut += int((_num_pieces(preprocessor, chunk, full) > preprocessor.sequence_length).sum())
    return Features(rows, np.arange(len(texts)), cut=cut)


def encode_windows(preprocessor, texts, stride):
    """Tokenizes and packs texts once, for all epochs; what is too long is spread over windows.

    Args:
        preprocessor: `BertPreprocessor`.
        texts: list of str, of tuples of str, or of lists of words; of pairs the second moves through the
            windows.
        stride: word pieces from the start of a window to that of the next.

    Returns:
        `Features` with at least one item for each text, and `places`.
    """
    rows, places, examples, cut = _empty(INPUTS[::2]), _empty(PLACES), [], 0
    for start in range(0, len(texts), CHUNK):
        chunk = as_segments(texts[start : start + CHUNK])
        packed = _as_arrays(preprocessor.windows(chunk, stride))
        _append(packed, rows, places)
        examples.append(start + packed["rows"])
        if isinstance(chunk, tuple):  # the first text of a pair stands in each window, cut to half of it
            room = (preprocessor.sequence_length - 3) // 2
            cut += int((preprocessor.tokenizer(chunk[0]).row_lengths().numpy() > room).sum())
    return Features(rows, np.concatenate(examples) if examples else np.zeros(0, int), places=places, cut=cut)


def as_segments(texts):
    """What a `BertPreprocessor` takes for a list of str, of tuples of str, or of lists of words."""
    if isinstance(texts[0], tuple):
        return tuple(map(list, zip(*texts, strict=True)))
    if isinstance(texts[0], list):
        import tensorflow as tf

        words = tf.constant([word for text in texts for word in text], "string")
        return tf.RaggedTensor.from_row_lengths(words, [len(text) for text in texts])
    return list(texts)


def _empty(names):
    return {name: [] for name in names}


def _as_arrays(packed):
    return {name: tensor.numpy() for name, tensor in packed.items()}


def _append(packed, *kinds):
    """Adds rows, without their padding, to lists by name; returns their lengths."""
    lengths = packed["input_mask"].sum(axis=1)
    for lists in kinds:
        for name, arrays in lists.items():
            arrays += [row[:length].copy() for row, length in zip(packed[name], lengths, strict=True)]
    return lengths


def _num_pieces(preprocessor, chunk, indices):
    """The word pieces that some texts have with their special tokens, before anything is cut."""
    segments = chunk if isinstance(chunk, tuple) else (chunk,)
    total = np.full(len(indices), 1 + len(segments))
    for segment in segments:
        total += preprocessor.tokenizer([segment[index] for index in indices]).row_lengths().numpy()
    return total
