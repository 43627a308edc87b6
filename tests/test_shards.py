import itertools
import json
import zlib

import numpy as np
import pytest
from conftest import run_python

from keras_bert_app.data import shards, tfrecord

LENGTH = 11
VOCAB = 40_009  # ids of one, two and three bytes
SHARED = {"sequence_length": LENGTH, "objective": "next", "vocab_size": VOCAB, "vocabulary_crc32": 5}


def made_up(number, labels=True, seed=3):
    """Random examples, none like another; `number` must be less than 127."""
    random = np.random.default_rng(seed)
    examples = []
    for index in range(number):
        pieces = int(random.integers(3, LENGTH + 1))
        ids = random.choice([index + 1, 128, 16_383, 16_384, VOCAB - 1], pieces)
        ids[0] = index + 1
        example = {
            "input_word_ids": ids.astype("int32"),
            "input_type_ids": random.integers(0, 2, pieces).astype("int32"),
        }
        examples.append({**example, "next_sentence_labels": index % 2} if labels else example)
    return examples


def write_folder(folder, train=53, validation=7, labels=True, seed=3, **changes):
    """A folder of small shards; returns its path."""
    folder.mkdir()
    entries = {}
    for split, number in (("train", train), ("validation", validation)):
        writer = tfrecord.ShardWriter(folder, split, seed, shard_size=5, num_open=2)
        for example in made_up(number, labels, seed):
            writer.write(example)
        entries[split] = writer.close()
    shards.write_manifest(folder, **{**SHARED, "seed": seed, **entries, **changes})
    return folder


@pytest.fixture
def folder(tmp_path):
    """Path of a folder of 53 examples for training and 7 for validation."""
    return write_folder(tmp_path / "examples")


def expected(example):
    """One example as a batch has it, made in another way."""
    row = np.zeros((3, LENGTH), "int32")
    pieces = len(example["input_word_ids"])
    row[:, :pieces] = example["input_word_ids"], [1] * pieces, example["input_type_ids"]
    return (*row.ravel().tolist(), example.get("next_sentence_labels"))


def rows_of(batches):
    """The examples of some batches, in their order."""
    rows = []
    for batch in batches:
        assert {array.dtype.name for array in batch.values()} == {"int32"}
        names = ("input_word_ids", "input_mask", "input_type_ids")
        assert {batch[name].shape for name in names} == {(len(batch["input_mask"]), LENGTH)}
        arrays = np.concatenate([batch[name] for name in names], axis=1).tolist()
        labels = batch.get("next_sentence_labels", np.array([None] * len(arrays))).tolist()
        rows += [(*row, label) for row, label in zip(arrays, labels, strict=True)]
    return rows


def entries_of(folder, split="train"):
    return json.loads((folder / "manifest.json").read_text())[split]


def first_shard(folder):
    return folder / entries_of(folder)[0]["file"]


def change_manifest(folder, **changes):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


# The files


def test_what_the_writer_says_of_its_files(folder):
    entries = entries_of(folder)
    assert [entry["file"] for entry in entries] == [f"train-{i:05d}.tfrecord" for i in range(len(entries))]
    assert sorted(path.name for path in folder.glob("train-*")) == [entry["file"] for entry in entries]
    assert sum(entry["examples"] for entry in entries) == 53
    assert all(1 <= entry["examples"] <= 5 for entry in entries)
    assert sum(entry["examples"] < 5 for entry in entries) <= 2  # those that were open at the end
    for entry in entries:
        data = (folder / entry["file"]).read_bytes()
        assert (entry["bytes"], entry["crc32"]) == (len(data), zlib.crc32(data))
    assert sum(entry["pieces"] for entry in entries) == sum(len(e["input_word_ids"]) for e in made_up(53))


def test_neighbours_go_to_random_shards(tmp_path):
    def order(seed):
        writer = tfrecord.ShardWriter(tmp_path, "train", seed, shard_size=7, num_open=3)
        for example in made_up(60):
            writer.write(example)
        parsed = [tfrecord.parse((tmp_path / e["file"]).read_bytes()) for e in writer.close()]
        return [p["input_word_ids"].values[p["input_word_ids"].splits[:-1]].tolist() for p in parsed]

    once = order(1)
    assert order(1) == once
    assert order(2) != once
    assert sorted(index for shard in once for index in shard) == list(range(1, 61))
    assert any(np.diff(shard).max() > 1 for shard in once)


def test_same_seed_same_bytes(tmp_path):
    a, b, c = (write_folder(tmp_path / name, seed=seed) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert entries_of(a) == entries_of(b) != entries_of(c)


def test_tensorflow_reads_the_shards(folder):
    import tensorflow as tf

    features = {
        "input_word_ids": tf.io.RaggedFeature(tf.int64),
        "input_type_ids": tf.io.RaggedFeature(tf.int64),
        "next_sentence_labels": tf.io.FixedLenFeature((), tf.int64),
    }
    paths = [str(folder / entry["file"]) for entry in entries_of(folder)]
    dataset = tf.data.TFRecordDataset(paths).batch(53).map(lambda data: tf.io.parse_example(data, features))
    read = next(iter(dataset))
    columns = [read[name].numpy() for name in features]
    assert len(columns[0]) == 53
    rows = [expected(dict(zip(features, values, strict=True))) for values in zip(*columns, strict=True)]
    assert sorted(rows) == sorted(map(expected, made_up(53)))


@pytest.mark.parametrize("names", [["a", "word", "label"], ["label", "word", "a"]])
def test_examples_that_tensorflow_wrote_in_any_order(tmp_path, names):
    import tensorflow as tf

    limits = [0, 1, 127, 128, 2**14 - 1, 2**14, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**31 - 1]
    rows = [{"word": limits, "a": [], "label": [1]}, {"word": [7], "a": [300, 2], "label": [0]}]
    rows += [{"word": list(range(200)), "a": [9], "label": [1]}]  # a message of more than 127 bytes
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as file:
        for row in rows:
            # Messages that are written one after the other are one message.
            parts = (
                tf.train.Example(
                    features=tf.train.Features(
                        feature={name: tf.train.Feature(int64_list=tf.train.Int64List(value=row[name]))}
                    )
                )
                for name in names
            )
            file.write(b"".join(part.SerializeToString() for part in parts))
            whole = tf.train.Example(
                features=tf.train.Features(
                    feature={
                        name: tf.train.Feature(int64_list=tf.train.Int64List(value=row[name]))
                        for name in names
                    }
                )
            )
            file.write(whole.SerializeToString())
    columns = tfrecord.parse((tmp_path / "a.tfrecord").read_bytes())
    assert set(columns) == set(names)
    for name, (values, splits) in columns.items():
        read = [values[start:end].tolist() for start, end in itertools.pairwise(splits)]
        assert read == [row[name] for row in rows for _ in range(2)]
    assert columns["word"].values.dtype == "uint32"
    assert columns["label"].values.dtype == "uint8"


def test_serialize_is_what_tensorflow_reads():
    import tensorflow as tf

    example = made_up(1)[0]
    read = tf.train.Example.FromString(tfrecord.serialize(example)).features.feature
    assert {name: list(feature.int64_list.value) for name, feature in read.items()} == {
        name: np.ravel(values).tolist() for name, values in example.items()
    }


# Batches


def test_every_example_once_in_an_epoch(folder):
    # 53 is a prime number: one example at a time, so that none is left out.
    rows = rows_of(shards.Shards(folder).batches("train", 1, seed=1, epoch=0))
    assert len(rows) == 53
    assert sorted(rows) == sorted(map(expected, made_up(53)))


def test_a_batch_size_that_divides(tmp_path):
    opened = shards.Shards(write_folder(tmp_path / "a", train=51))
    batches = list(opened.batches("train", 17, seed=1, epoch=0))
    assert [len(batch["input_mask"]) for batch in batches] == [17] * 3
    assert sorted(rows_of(batches)) == sorted(map(expected, made_up(51)))


@pytest.mark.parametrize(
    ("batch_size", "train", "validation"), [(4, 13, 2), (7, 7, 1), (30, 1, 1), (50, 1, 1)]
)
def test_numbers_of_batches(folder, batch_size, train, validation):
    opened = shards.Shards(folder)
    assert opened.num_batches("train", batch_size) == train
    assert opened.num_batches("validation", batch_size) == validation
    batches = list(opened.batches("train", batch_size))
    assert [len(batch["input_mask"]) for batch in batches] == [batch_size] * train
    assert len(set(rows_of(batches))) == batch_size * train
    batches = list(opened.batches("validation", batch_size))
    assert len(batches) == validation
    assert sum(len(batch["input_mask"]) for batch in batches) == 7


def test_validation_is_always_in_the_same_random_order(folder):
    opened = shards.Shards(folder)
    rows = rows_of(opened.batches("validation", 3))
    assert rows == rows_of(opened.batches("validation", 5, seed=8, epoch=9))
    assert rows[3:] == rows_of(opened.batches("validation", 3, first_batch=1))
    assert sorted(rows) == sorted(map(expected, made_up(7)))
    ids = []
    for entry in entries_of(folder, "validation"):
        values, splits = tfrecord.parse((folder / entry["file"]).read_bytes())["input_word_ids"]
        ids += values[splits[:-1]].tolist()
    assert sorted(row[0] for row in rows) == sorted(ids)
    assert [row[0] for row in rows] != ids


def test_the_order_depends_on_seed_and_epoch(folder):
    orders = {}
    for seed, epoch in ((1, 0), (1, 1), (2, 0), (0, 1)):
        orders[seed, epoch] = rows_of(shards.Shards(folder).batches("train", 1, seed, epoch))
        assert orders[seed, epoch] == rows_of(shards.Shards(folder).batches("train", 1, seed, epoch))
    assert len({tuple(order) for order in orders.values()}) == 4
    assert len({tuple(sorted(order)) for order in orders.values()}) == 1
    whole = rows_of(shards.Shards(folder).batches("train", 4, 1, 1))
    assert whole == orders[1, 1][: len(whole)]


@pytest.mark.parametrize("first_batch", [0, 1, 4, 5, 6, 9, 12, 13])
def test_an_epoch_goes_on_where_it_stopped(folder, first_batch, monkeypatch):
    whole = list(shards.Shards(folder).batches("train", 4, seed=7, epoch=2))
    read = []
    reader = shards.Shards._read
    monkeypatch.setattr(shards.Shards, "_read", lambda *given: read.append(given[2]) or reader(*given))
    rest = list(shards.Shards(folder).batches("train", 4, seed=7, epoch=2, first_batch=first_batch))
    assert len(rest) == 13 - first_batch
    for expected_batch, batch in zip(whole[first_batch:], rest, strict=True):
        assert expected_batch.keys() == batch.keys()
        for name, array in batch.items():
            np.testing.assert_array_equal(array, expected_batch[name])
    # Windows before the first batch are not read: at most three shards more than are needed.
    assert sum(shard["examples"] for shard in read) < 53 - 4 * first_batch + 5 * shards.WINDOW


def test_no_more_than_a_window_is_loaded_at_first(folder, monkeypatch):
    read = []
    reader = shards.Shards._read
    monkeypatch.setattr(shards.Shards, "_read", lambda *given: read.append(given[1]) or reader(*given))
    next(shards.Shards(folder).batches("train", 4))
    assert len(read) == shards.WINDOW


def test_without_labels(tmp_path):
    opened = shards.Shards(write_folder(tmp_path / "a", labels=False))
    assert "next_sentence_labels" not in next(opened.batches("train", 3))
    assert sorted(rows_of(opened.batches("train", 1)), key=str) == sorted(
        map(expected, made_up(53, labels=False)), key=str
    )


def test_no_validation(tmp_path):
    opened = shards.Shards(write_folder(tmp_path / "a", validation=0))
    assert opened.num_examples("validation") == opened.num_batches("validation", 3) == 0


def test_properties(folder):
    opened = shards.Shards(folder)
    assert (opened.sequence_length, opened.objective) == (LENGTH, "next")
    assert (opened.num_examples("train"), opened.num_examples("validation")) == (53, 7)
    assert opened.details == {"format": shards.FORMAT, "version": 1, **SHARED, "seed": 3}


def test_reading_takes_no_tensorflow(folder):
    code = """
import sys
sys.modules["tensorflow"] = None
from keras_bert_app.data import shards
opened = shards.Shards(sys.argv[1])
print(sum(int(batch["input_word_ids"].sum()) for batch in opened.batches("train", 1, seed=1)))
"""
    done = run_python(code, folder)
    total = sum(int(example["input_word_ids"].sum()) for example in made_up(53))
    assert done.stdout.strip() == str(total), done.stderr


def test_several_folders(tmp_path):
    folders = [write_folder(tmp_path / "a", 53, 7), write_folder(tmp_path / "b", 31, 3, seed=4)]
    opened = shards.Shards(*folders)
    assert (opened.num_examples("train"), opened.num_examples("validation")) == (84, 10)
    both = [*made_up(53), *made_up(31, seed=4)]
    assert sorted(rows_of(opened.batches("train", 12))) == sorted(map(expected, both))


# What goes wrong


@pytest.mark.parametrize(
    ("change", "other"),
    [("sequence_length", 13), ("objective", "order"), ("vocab_size", 40_010), ("vocabulary_crc32", 6)],
)
def test_folders_that_do_not_belong_together(tmp_path, folder, change, other):
    write_folder(tmp_path / "b", **{change: other})
    with pytest.raises(ValueError, match=f"examples and .*b do not belong together: {change} is .*{other}"):
        shards.Shards(folder, tmp_path / "b")


def test_no_manifest(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*manifest.json: give a folder of prepared"):
        shards.Shards(tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"format":', r"manifest.json is not JSON \(Expecting value.*\): prepare the examples again"),
        (b"\xff", r"manifest.json is not JSON \(.*codec"),
        (b"[1]", "manifest.json has not the format 'keras_bert_app pretraining examples'"),
        (b"{}", "has not the format"),
    ],
)
def test_manifests_that_are_none(folder, data, message):
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        shards.Shards(folder)


def test_another_version(folder):
    change_manifest(folder, version=2)
    with pytest.raises(ValueError, match="has version 2, this program reads version 1: prepare"):
        shards.Shards(folder)


@pytest.mark.parametrize("name", ["sequence_length", "objective", "vocabulary_crc32", "train", "validation"])
def test_a_manifest_that_lacks_something(folder, name):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=f"lacks '{name}': prepare the examples again"):
        shards.Shards(folder)


def test_a_missing_shard(folder):
    first_shard(folder).unlink()
    with pytest.raises(ValueError, match="train-00000.tfrecord is missing: prepare the examples again"):
        shards.Shards(folder)


@pytest.mark.parametrize(("change", "message"), [(-9, "was cut short"), (9, "has grown")])
def test_a_shard_of_another_size(folder, change, message):
    data = first_shard(folder).read_bytes()
    first_shard(folder).write_bytes((data + bytes(9))[: len(data) + change])
    sizes = f"{len(data) + change} bytes and had {len(data)}"
    with pytest.raises(
        ValueError, match=f"train-00000.tfrecord {message}: prepare the examples again.*{sizes}"
    ):
        shards.Shards(folder)


def test_a_flipped_bit(folder):
    data = bytearray(first_shard(folder).read_bytes())
    data[50] ^= 4
    first_shard(folder).write_bytes(data)
    with pytest.raises(ValueError, match="train-00000.tfrecord is damaged.*prepare the examples again"):
        list(shards.Shards(folder).batches("train", 3))


def test_longer_than_the_manifest_says(folder):
    change_manifest(folder, sequence_length=LENGTH - 1)
    with pytest.raises(ValueError, match="an example of 11 pieces, longer than sequence_length 10: prepare"):
        list(shards.Shards(folder).batches("train", 3))


def test_ids_beyond_the_vocabulary(folder):
    change_manifest(folder, vocab_size=VOCAB - 1)
    with pytest.raises(ValueError, match="has the id 40008, beyond the vocabulary of 40008: prepare"):
        list(shards.Shards(folder).batches("train", 3))


def test_too_few_examples_for_a_batch(folder):
    with pytest.raises(ValueError, match="53 examples for train do not fill a batch of 54: choose a smaller"):
        shards.Shards(folder).batches("train", 54)


@pytest.mark.parametrize("first_batch", [-1, 14])
def test_a_first_batch_that_is_not_there(folder, first_batch):
    with pytest.raises(ValueError, match=f"first_batch is {first_batch}: the epoch has 13 batches"):
        shards.Shards(folder).batches("train", 4, first_batch=first_batch)


@pytest.mark.parametrize(
    "second",
    [
        {"input_word_ids": [2, 3], "input_type_ids": [0, 0], "next_sentence_labels": 1},
        {"input_word_ids": [2, 3]},
        {"input_word_ids": [2, 3], "input_type_ids": [0, 0], "extra": [1]},
    ],
)
def test_examples_that_differ(tmp_path, second):
    writer = tfrecord.ShardWriter(tmp_path, "train", 1)
    writer.write({"input_word_ids": [2, 3], "input_type_ids": [0, 0]})
    with pytest.raises(ValueError, match="an example holds .*: each must hold"):
        writer.write(second)
    with pytest.raises(ValueError, match="an example holds .*: each must hold"):
        tfrecord.ShardWriter(tmp_path, "train", 1).write({**second, "another": 1})


def test_types_for_every_piece(tmp_path):
    with pytest.raises(ValueError, match="3 input_word_ids but 2 input_type_ids: give one for each"):
        tfrecord.ShardWriter(tmp_path, "train", 1).write(
            {"input_word_ids": [2, 7, 3], "input_type_ids": [0, 0]}
        )


def test_writing_where_nothing_can_be_written(tmp_path, monkeypatch):
    import tensorflow as tf

    example = made_up(1)[0]
    with pytest.raises(OSError, match="No such file or directory"):
        tfrecord.ShardWriter(tmp_path / "none", "train", 1).write(example)

    def fail(place):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    writer = tfrecord.ShardWriter(tmp_path, "train", 1)
    writer.write(example)
    monkeypatch.setattr(writer, "_close", fail)
    with pytest.raises(OSError, match="No space left on device"):
        writer.close()


def record(data):
    return len(data).to_bytes(8, "little") + bytes(4) + data + bytes(4)


GOOD = bytes.fromhex("0a0b 0a09 0a0161 1204 1a02 0a00")  # a: no integers


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not a record of any kind, just text", "not a TFRecord file: a record from byte 12 to"),
        (record(GOOD)[:-1], "not a TFRecord file: a record from byte 12 to 25 of 28"),
        (record(GOOD) + record(b"\x0a\x7f"), "record 2 is not a tf.train.Example"),
        (record(b"\x0a"), "record 1 is not a tf.train.Example"),
        (record(b"\x08\x01"), "a field of wire type 0: only packed integers can be read"),
        (record(GOOD) + record(b""), "2 examples, but only 1 of them hold a"),
    ],
)
def test_files_that_are_not_ours(data, message):
    assert tfrecord.parse(record(GOOD))["a"].splits.tolist() == [0, 0]
    with pytest.raises(ValueError, match=message):
        tfrecord.parse(data)


@pytest.mark.parametrize("value", [-1, 2**31, 2**35])
def test_integers_that_do_not_fit(value):
    data = record(tfrecord.serialize({"a": [3, value]}))
    with pytest.raises(ValueError, match="a holds integers that are negative or too large for int32"):
        tfrecord.parse(data)


def test_validation_begins_with_examples_of_all_folders(tmp_path):
    """A part of it stands for the whole: where there are very many, the rest is left out."""
    opened = shards.Shards(
        write_folder(tmp_path / "a", validation=20), write_folder(tmp_path / "b", validation=20, seed=4)
    )
    begin = set(rows_of(opened.batches("validation", 10))[:10])
    for seed in (3, 4):
        assert begin & set(map(expected, made_up(20, seed=seed)))
