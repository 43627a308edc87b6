"""Examples in TFRecord files: written in random order with TensorFlow, read with NumPy alone.

Each is a serialized `tf.train.Example`, which `tf.data` and other programs read as well.

Reference:
    https://www.tensorflow.org/tutorials/load_data/tfrecord
    https://protobuf.dev/programming-guides/encoding
"""

import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

INPUTS = ("input_word_ids", "input_type_ids")
LABELS = "next_sentence_labels"

HEADER, FOOTER = 12, 4  # bytes around a record: its length and the checksum of that; its checksum
LENGTH_DELIMITED = 2  # the only wire type in an Example of integers
INT64_LIST = 3  # number of the field in tf.train.Feature
MAX_INT32 = 2**31 - 1
MAX_VARINT = 5  # bytes of the largest int32


class ShardWriter:
    """Writes examples to shards, each example to a random one of those that are open.

    What stood together in a document so comes to lie apart. Neither the number of examples nor
    their order has an influence on the memory that is used.

    Args:
        folder: exists already; `files.whole` makes sure that it appears whole or not at all.
        split: `"train"` or `"validation"`, the beginning of the names of the files.
        seed: int or sequence of ints; the same seed and examples give the same files.
        shard_size: examples of a full shard.
        num_open: shards that are filled at the same time.

    Example:

    >>> folder = Path("examples")
    >>> folder.mkdir()
    >>> writer = ShardWriter(folder, "train", seed=1, shard_size=2, num_open=1)
    >>> for word in range(7, 10):
    ...     writer.write({"input_word_ids": [2, word, 3], "input_type_ids": [0, 0, 0]})
    >>> [(shard["file"], shard["examples"], shard["pieces"]) for shard in writer.close()]
    [('train-00000.tfrecord', 2, 6), ('train-00001.tfrecord', 1, 3)]
    """

    def __init__(self, folder, split, seed, shard_size=8192, num_open=16):
        self._folder = Path(folder)
        self._split = split
        self._random = np.random.default_rng(seed)
        self._shard_size = shard_size
        self._num_open = num_open
        self._open = {}  # place -> (TFRecordWriter, entry of the manifest)
        self._entries = []
        self._names = None

    def write(self, example):
        """Adds an example.

        Args:
            example: dict of `input_word_ids` and `input_type_ids`, int `(pieces,)`, with [CLS] and
                [SEP] but without padding and unmasked; and `next_sentence_labels`, 0 or 1, if the
                corpus has a sentence objective.

        Raises:
            ValueError: the example lacks something, or has something that others have not.
            OSError: it cannot be written.
        """
        import tensorflow as tf

        self._check(example)
        place = int(self._random.integers(self._num_open))
        try:
            if place not in self._open:
                entry = {
                    "file": f"{self._split}-{len(self._entries):05d}.tfrecord",
                    "examples": 0,
                    "pieces": 0,
                }
                self._entries.append(entry)
                self._open[place] = tf.io.TFRecordWriter(str(self._folder / entry["file"])), entry
            file, entry = self._open[place]
            file.write(serialize(example))
            entry["examples"] += 1
            entry["pieces"] += len(example["input_word_ids"])
            if entry["examples"] == self._shard_size:
                self._close(place)
        except tf.errors.OpError as error:
            raise OSError(error.message) from error

    def close(self):
        """Closes all shards.

        Returns:
            list of dicts for the manifest, one for each shard: `file`, `examples`, `pieces`,
            `bytes` and `crc32`.

        Raises:
            OSError: they cannot be written.
        """
        import tensorflow as tf

        try:
            for place in list(self._open):
                self._close(place)
        except tf.errors.OpError as error:
            raise OSError(error.message) from error
        return self._entries

    def _check(self, example):
        names = set(example)
        self._names = self._names or names
        if names != self._names or names - {LABELS} != set(INPUTS):
            raise ValueError(
                f"an example holds {sorted(names)}: each must hold {sorted(INPUTS)}, "
                f"and either all or none {LABELS}"
            )
        pieces = [len(example[name]) for name in INPUTS]
        if pieces[0] != pieces[1]:
            raise ValueError(f"{pieces[0]} {INPUTS[0]} but {pieces[1]} {INPUTS[1]}: give one for each")

    def _close(self, place):
        file, entry = self._open.pop(place)
        file.close()
        data = (self._folder / entry["file"]).read_bytes()
        entry.update(bytes=len(data), crc32=zlib.crc32(data))


def serialize(example):
    """A serialized `tf.train.Example`.

    Args:
        example: dict of names and sequences of int.

    Returns:
        bytes, always the same for the same example.
    """
    import tensorflow as tf

    features = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=np.ravel(values).tolist()))
        for name, values in example.items()
    }
    message = tf.train.Example(features=tf.train.Features(feature=features))
    return message.SerializeToString(deterministic=True)


class Ragged(NamedTuple):
    """Rows of unlike length, one after the other.

    Args:
        values: `(values,)`, in the smallest unsigned type that holds them.
        splits: int64 `(rows + 1,)`; row i is `values[splits[i] : splits[i + 1]]`.
    """

    values: np.ndarray
    splits: np.ndarray

    def padded(self, rows, length):
        """Some rows, with zeros behind them.

        Args:
            rows: `(batch,)`, which ones.
            length: at least that of the longest of them.

        Returns:
            int32 `(batch, length)`.
        """
        starts, ends = self.splits[rows, None], self.splits[rows + 1, None]
        places = starts + np.arange(length)  # (batch, length)
        inside = places < ends
        result = np.zeros(places.shape, "int32")
        result[inside] = self.values[places[inside]]
        return result


def concatenate(parts):
    """One `Ragged` of the rows of several."""
    offsets = np.cumsum([0, *(part.splits[-1] for part in parts)])
    splits = [part.splits[1:] + offset for part, offset in zip(parts, offsets, strict=False)]
    return Ragged(np.concatenate([part.values for part in parts]), np.concatenate([[0], *splits]))


def parse(data):
    """Reads all records of a TFRecord file.

    Args:
        data: bytes, the whole file. Its checksums are not looked at.

    Returns:
        dict of names and `Ragged`, whose rows are the examples.

    Raises:
        ValueError: it is not a TFRecord file, or the examples do not all hold the same names, or
            hold something other than integers from 0 to 2147483647.
    """
    columns, number = {}, 0
    try:
        for record in _records(data):
            number += 1
            for features in _fields(record, 1):
                for entry in _fields(features, 1):
                    name, feature = b"".join(_fields(entry, 1)), b"".join(_fields(entry, 2))
                    numbers = (b"".join(_fields(part, 1)) for part in _fields(feature, INT64_LIST))
                    columns.setdefault(name.decode(), []).append(b"".join(numbers))
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"record {number} is not a tf.train.Example") from error
    for name, rows in columns.items():
        if len(rows) != number:
            raise ValueError(f"{number} examples, but only {len(rows)} of them hold {name}")
    return {name: _decode(name, rows) for name, rows in columns.items()}


def _records(data):
    """Yields the bytes of each record."""
    place = 0
    while place < len(data):
        start = place + HEADER
        end = start + int.from_bytes(data[place : place + 8], "little")
        place = end + FOOTER
        if place > len(data):
            raise ValueError(f"not a TFRecord file: a record from byte {start} to {end} of {len(data)}")
        yield data[start:end]


def _fields(message, wanted):
    """The contents of each field of a message that has the number `wanted`."""
    place, contents = 0, []
    while place < len(message):
        tag, place = message[place], place + 1
        if tag & 7 != LENGTH_DELIMITED:
            raise ValueError(f"a field of wire type {tag & 7}: only packed integers can be read")
        size = shift = 0
        byte = 128
        while byte > 127:
            byte, place = message[place], place + 1
            size |= (byte & 127) << shift
            shift += 7
        if place + size > len(message):
            raise IndexError
        if tag >> 3 == wanted:
            contents.append(message[place : place + size])
        place += size
    return contents


def _decode(name, rows):
    """The integers of packed rows: seven bits in a byte, the lowest first, the top bit says 'more'."""
    data = np.frombuffer(b"".join(rows), "uint8")
    ends = np.flatnonzero(data < 128)  # (values,)
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    sizes = ends - starts + 1
    values = (data[starts] & 127).astype("int64")
    for place in range(1, min(sizes.max(initial=0), MAX_VARINT)):
        longer = np.flatnonzero(sizes > place)
        values[longer] |= (data[starts[longer] + place] & 127).astype("int64") << 7 * place
    largest = values.max(initial=0)
    if sizes.max(initial=0) > MAX_VARINT or largest > MAX_INT32:
        raise ValueError(f"{name} holds integers that are negative or too large for int32")
    lengths = np.fromiter(map(len, rows), "int64", len(rows))
    splits = np.concatenate([[0], np.searchsorted(ends, np.cumsum(lengths))])
    return Ragged(values.astype(np.min_scalar_type(largest)), splits)
