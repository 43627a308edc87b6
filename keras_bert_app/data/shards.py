"""Folders of prepared examples for pretraining: what they hold, and their batches in random order."""

import json
import zlib
from pathlib import Path

import numpy as np

from keras_bert_app import files
from keras_bert_app.data import tfrecord
from keras_bert_app.data.tfrecord import INPUTS, LABELS

FORMAT = "keras_bert_app pretraining examples"
VERSION = 1
MANIFEST = "manifest.json"
SPLITS = ("train", "validation")
# What must be the same in folders that are read together.
SHARED = ("sequence_length", "objective", "vocab_size", "vocabulary_crc32")
GROUP = 50  # batches that are sorted by length together; more gives less padding, less mixing
WINDOW = 4  # shards in memory, whose examples are shuffled together


def write_manifest(
    folder, *, sequence_length, objective, vocab_size, vocabulary_crc32, train, validation, **details
):
    """Writes `manifest.json`, which says what the shards of a folder hold.

    Args:
        folder: where the shards are.
        sequence_length: word pieces of the longest example there may be.
        objective: str, the sentence objective.
        vocab_size: word pieces of the vocabulary.
        vocabulary_crc32: of the vocabulary's file.
        train: from `tfrecord.ShardWriter.close`.
        validation: from `tfrecord.ShardWriter.close`.
        **details: whatever else is worth knowing later, as JSON: seed, options, statistics.
    """
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "sequence_length": sequence_length,
        "objective": objective,
        "vocab_size": vocab_size,
        "vocabulary_crc32": vocabulary_crc32,
        **details,
        "train": train,
        "validation": validation,
    }
    files.write_json(Path(folder) / MANIFEST, manifest)


def read_manifest(folder):
    """Reads `manifest.json` and checks that the shards are there in full length.

    Args:
        folder: where the shards are.

    Returns:
        dict, as it was given to `write_manifest`.

    Raises:
        FileNotFoundError: there is no manifest.
        ValueError: it is not one of ours, or a shard is missing or was cut short.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: give a folder of prepared examples")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): prepare the examples again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path} has not the format {FORMAT!r}: give a folder of prepared examples")
    if manifest.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {manifest.get('version')}, this program reads version {VERSION}: "
            "prepare the examples again"
        )
    for name in (*SHARED, *SPLITS):
        if name not in manifest:
            raise ValueError(f"{path} lacks {name!r}: prepare the examples again")
    for shard in (shard for split in SPLITS for shard in manifest[split]):
        file = path.with_name(shard["file"])
        if not file.is_file():
            raise ValueError(f"{file} is missing: prepare the examples again or copy the whole folder")
        if (size := file.stat().st_size) != shard["bytes"]:
            change = "was cut short" if size < shard["bytes"] else "has grown"
            raise ValueError(
                f"{file} {change}: prepare the examples again. It has {size} bytes and had {shard['bytes']}"
            )
    return manifest


class Shards:
    """The prepared examples of one or more folders. Reading them takes no TensorFlow.

    Attributes:
        sequence_length: the length of all batches.
        objective: str, the sentence objective.
        folder: the first of `folders`.
        crc32s: list of int, of all shards.
        manifests: list of dict, all of the folders' manifests but the lists of shards.
        details: the first of `manifests`.

    Args:
        *folders: paths.

    Raises:
        FileNotFoundError: there is no manifest in a folder.
        ValueError: a manifest is not one of ours, a shard is missing or was cut short, or the
            folders do not belong together.

    Example:

    >>> folder = Path("prepared")
    >>> folder.mkdir()
    >>> written = {}
    >>> for split in ("train", "validation"):
    ...     writer = tfrecord.ShardWriter(folder, split, seed=1)
    ...     for word in range(7, 12):
    ...         writer.write({"input_word_ids": [2, word, 3], "input_type_ids": [0, 0, 0]})
    ...     written[split] = writer.close()
    >>> about = {"sequence_length": 4, "objective": "none", "vocab_size": 13, "vocabulary_crc32": 0}
    >>> write_manifest(folder, **about, **written)
    >>> shards = Shards(folder)
    >>> shards.num_examples("train"), shards.num_batches("train", 2), shards.num_batches("validation", 2)
    (5, 2, 3)
    >>> batch = next(shards.batches("train", batch_size=2, seed=1))
    >>> batch["input_mask"].tolist()
    [[1, 1, 1, 0], [1, 1, 1, 0]]
    """

    def __init__(self, *folders):
        manifests = [read_manifest(folder) for folder in folders]
        for folder, manifest in zip(folders, manifests, strict=True):
            for name in SHARED:
                if manifest[name] != manifests[0][name]:
                    raise ValueError(
                        f"{folders[0]} and {folder} do not belong together: {name} is "
                        f"{manifests[0][name]!r} and {manifest[name]!r}. Prepare both in the same way"
                    )
        self.manifests = [{k: v for k, v in manifest.items() if k not in SPLITS} for manifest in manifests]
        self.details = self.manifests[0]
        self.sequence_length = self.details["sequence_length"]
        self.objective = self.details["objective"]
        self.folder = Path(folders[0])
        self.crc32s = [shard["crc32"] for m in manifests for split in SPLITS for shard in m[split]]
        self._shards = {
            split: [
                (Path(folder) / shard["file"], shard)
                for folder, manifest in zip(folders, manifests, strict=True)
                for shard in manifest[split]
            ]
            for split in SPLITS
        }

    def num_examples(self, split):
        """How many examples `"train"` or `"validation"` has."""
        return sum(shard["examples"] for _, shard in self._shards[split])

    def num_pieces(self, split):
        """How many word pieces all examples have, with special tokens and without padding."""
        return sum(shard["pieces"] for _, shard in self._shards[split])

    def num_batches(self, split, batch_size):
        """How many batches an epoch has: in training without the last if it is not full."""
        return (self.num_examples(split) + (0 if split == "train" else batch_size - 1)) // batch_size

    def batches(self, split, batch_size, seed=0, epoch=0, first_batch=0, multiple=None):
        """The batches of one epoch.

        For training the order is random; it depends on `seed` and `epoch` alone. The shards come
        in random order, and the examples of every four of them are shuffled together. For
        validation it is always the same random order.

        With `multiple` a batch is only as long as it must be, and for training the examples of a
        batch are of like length: less padding, but batches of several shapes.

        Args:
            split: `"train"` or `"validation"`.
            batch_size: examples of a batch. For training, those that are left at the end of the
                epoch are left out; for validation they are the last batch.
            seed: int.
            epoch: int.
            first_batch: how many batches to leave out; what follows is the same as without it.
            multiple: to which the length of a batch is rounded up. By default it is `sequence_length`.

        Returns:
            iterator of dicts of int32 arrays `(batch, length)`: `input_word_ids`, `input_mask`,
            `input_type_ids`, padded with 0; and `next_sentence_labels` `(batch,)` if there are.

        Raises:
            ValueError: there is not one full batch, or not that many; or, when it comes to it, a
                shard is damaged.
        """
        number = self.num_batches(split, batch_size)
        if not number:
            raise ValueError(
                f"{self.num_examples(split)} examples for {split} do not fill a batch of {batch_size}: "
                "choose a smaller batch size or prepare more examples"
            )
        if not 0 <= first_batch <= number:
            raise ValueError(f"first_batch is {first_batch}: the epoch has {number} batches")
        return self._batches(split, batch_size, [seed, epoch], first_batch * batch_size, multiple)

    def _batches(self, split, batch_size, seed, skip, multiple):
        parts, missing = [], batch_size
        for shards, order, first in self._windows(split, seed):
            if skip >= first + len(order):
                continue  # not even read
            columns = self._load(shards)
            if multiple and split == "train":
                lengths = np.diff(columns["input_word_ids"].splits)
                order = _by_length(order, lengths, -first % batch_size, batch_size, [*seed, first])
            order = order[max(skip - first, 0) :]
            while len(order):
                rows, order = order[:missing], order[missing:]
                parts.append(self._pad(columns, rows))
                missing -= len(rows)
                if not missing:
                    yield _joined(parts, multiple)
                    parts, missing = [], batch_size
        if parts and split != "train":
            yield _joined(parts, multiple)

    def _windows(self, split, seed):
        """Yields the shards to load together, the order of their examples and how many came before."""
        random = np.random.default_rng(seed if split == "train" else 0)
        shards, first = self._shards[split], 0
        shards = [shards[i] for i in random.permutation(len(shards))]
        for start in range(0, len(shards), WINDOW):
            window = shards[start : start + WINDOW]
            number = sum(shard["examples"] for _, shard in window)
            yield window, random.permutation(number), first
            first += number

    def _load(self, shards):
        """The examples of some shards, a dict of `Ragged`."""
        parts = [self._read(*shard) for shard in shards]
        return {name: tfrecord.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _read(self, path, shard):
        """The examples of one shard, a dict of `Ragged`."""
        data = path.read_bytes()
        if zlib.crc32(data) != shard["crc32"]:
            raise ValueError(f"{path} is damaged, its crc32 has changed: prepare the examples again")
        columns = tfrecord.parse(data)
        longest = np.diff(columns["input_word_ids"].splits).max()
        if longest > self.sequence_length:
            raise ValueError(
                f"{path} has an example of {longest} pieces, longer than sequence_length "
                f"{self.sequence_length}: prepare the examples again"
            )
        largest = columns["input_word_ids"].values.max()
        if largest >= self.details["vocab_size"]:
            raise ValueError(
                f"{path} has the id {largest}, beyond the vocabulary of {self.details['vocab_size']}: "
                "prepare the examples again with this vocabulary"
            )
        return columns

    def _pad(self, columns, rows):
        splits = columns["input_word_ids"].splits
        lengths = splits[rows + 1] - splits[rows]  # (batch,)
        batch = {name: columns[name].padded(rows, self.sequence_length) for name in INPUTS}
        batch["input_mask"] = (np.arange(self.sequence_length) < lengths[:, None]).astype("int32")
        if LABELS in columns:
            batch[LABELS] = columns[LABELS].values[rows].astype("int32")
        return batch


def _by_length(order, lengths, head, batch_size, seed):
    """`order` changed so that a batch has examples of like length.

    The first `head` examples belong to a batch that began before, the last to one that goes on.
    """
    random = np.random.default_rng(seed)
    whole = (len(order) - head) // batch_size
    arranged = order.copy()
    for start in range(0, whole, GROUP):
        begin, end = (head + batch_size * number for number in (start, min(start + GROUP, whole)))
        group = order[begin:end]
        batches = group[np.argsort(lengths[group], kind="stable")].reshape(-1, batch_size)
        arranged[begin:end] = random.permutation(batches).ravel()
    return arranged


def _joined(parts, multiple):
    """One batch of several parts, without the columns that are padding alone."""
    batch = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if multiple:
        longest = int(batch["input_mask"].sum(axis=1).max())
        length = -(-longest // multiple) * multiple
        batch = {name: array[:, :length] if array.ndim == 2 else array for name, array in batch.items()}
    return batch
