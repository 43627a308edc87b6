import itertools
import json
import re
import zlib
from collections import Counter

import numpy as np
import pytest
from conftest import VOCABULARY

import keras_bert_app.data.examples
from keras_bert_app import preparation
from keras_bert_app.data import documents as data_documents
from keras_bert_app.data import shards, tfrecord
from keras_bert_app.data.documents import tokenize_documents
from keras_bert_app.preparation import prepare_examples

LETTERS = "bcdefghjklmnopqr"
WORDS = ["great", "good", "fun", "bad", "dull"]
LENGTH = 23
QUIET = {"sequence_length": LENGTH, "validation_share": 0}


def text_of(number, sentences):
    """A document whose sentences say where they are from, each of seven word pieces."""
    first, second = LETTERS[number // 16], LETTERS[number % 16]
    return " ".join(f"Film {first} {second} {LETTERS[i]} was {WORDS[i % 5]}." for i in range(sentences))


def documents(number, sentences=7):
    return [text_of(index, 1 + index % sentences) for index in range(number)]


@pytest.fixture(scope="module")
def tokenizer():
    from keras_bert_app.preprocessing.tokenizer import BertTokenizer

    return BertTokenizer(VOCABULARY)


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(documents(13)))
    return tmp_path / "a.txt"


def rows_of(folder, split="train"):
    """The words of each example and its label."""
    rows = []
    for shard in json.loads((folder / "manifest.json").read_text())[split]:
        columns = tfrecord.parse((folder / shard["file"]).read_bytes())
        ids, splits = columns["input_word_ids"]
        labels = columns["next_sentence_labels"].values if "next_sentence_labels" in columns else None
        for number, (start, end) in enumerate(itertools.pairwise(splits)):
            words = " ".join(VOCABULARY[piece] for piece in ids[start:end])
            rows.append((words, None if labels is None else int(labels[number])))
    return rows


def words_of(*folders):
    """How often each word piece is in the examples."""
    rows = [row for folder in folders for split in shards.SPLITS for row in rows_of(folder, split)]
    counts = Counter(word for words, _ in rows for word in words.split())
    return Counter({word: count for word, count in counts.items() if word not in VOCABULARY[:5]})


def expected_words(texts):
    return Counter(word for text in texts for word in text.lower().replace(".", " .").split())


def sentences_in(words):
    return re.findall(r"film \w \w \w was \w+", words)


def used_once(folder):
    """How often each sentence is in its turn, not as the next one of another document."""
    counts = Counter()
    for split in shards.SPLITS:
        for words, label in rows_of(folder, split):
            first, second = words.removesuffix("[SEP]").split("[SEP]")
            counts.update(sentences_in(first if label else first + second))
    return counts


def expected_sentences(texts):
    return Counter(sentence for text in texts for sentence in sentences_in(text.lower()))


# What is written


@pytest.mark.parametrize("objective", preparation.OBJECTIVES)
def test_counts_and_manifest(tmp_path, corpus, tokenizer, objective):
    more = "The film was strange.\n\nIt was  \n a film of odd\tplot?\n\n \x7f \n"  # strange, odd: [UNK]
    (tmp_path / "b.txt").write_text(more)
    passes = 1 if objective == "masked_lm" else 2
    count = prepare_examples(
        [corpus, tmp_path / "b.txt"], tokenizer, tmp_path / "out", objective=objective,
        sequence_length=LENGTH, short_seq_prob=0.2, validation_share=0.2, duplicates=passes, seed=5,
    )  # fmt: skip
    sizes = [1 + index % 7 for index in range(13)]
    assert {name: count[name] for name in list(count)[:6]} == {
        "documents": 15,
        "excluded": 0,
        "sentences": sum(sizes) + 2,
        "split_sentences": 0,
        "pieces": 7 * sum(sizes) + 5 + 8,
        "unknown": 2,
    }
    examples = {split: len(rows_of(tmp_path / "out", split)) for split in shards.SPLITS}
    assert [count[f"{split}_examples"] for split in shards.SPLITS] == list(examples.values())
    assert all(examples.values())
    manifest = shards.read_manifest(tmp_path / "out")
    assert manifest == {
        **manifest,
        **count,
        "sequence_length": LENGTH,
        "objective": objective,
        "short_seq_prob": 0.2,
        "duplicates": passes,
        "validation_share": 0.2,
        "document": "blank_line",
        "language": "en",
        "shard": [0, 1],
        "seed": 5,
        "vocab_size": len(VOCABULARY),
        "vocabulary_crc32": zlib.crc32("\n".join(VOCABULARY).encode()),
        "sources": {
            "files": 2,
            "bytes": corpus.stat().st_size + len(more),
            "names": [corpus.name, "b.txt"],
        },
    }
    opened = shards.Shards(tmp_path / "out")
    batch = next(opened.batches("train", 3))
    assert batch["input_word_ids"].shape == (3, LENGTH)
    assert ("next_sentence_labels" in batch) == (objective != "masked_lm")
    for words, _ in rows_of(tmp_path / "out"):
        assert words.startswith("[CLS] ")
        assert words.endswith(" [SEP]")
    assert (tmp_path / "out" / "tokenizer" / "vocab.txt").read_text().split("\n")[:-1] == VOCABULARY
    settings = json.loads((tmp_path / "out" / "tokenizer" / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == LENGTH
    assert {path.name for path in (tmp_path / "out").glob("*")} == {
        "manifest.json", "tokenizer", *(e["file"] for split in shards.SPLITS for e in manifest[split]),
    }  # fmt: skip


def test_the_vocabulary_as_a_file(tmp_path, corpus, tokenizer):
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY))
    prepare_examples(corpus, tmp_path / "vocab.txt", tmp_path / "one", **QUIET)
    prepare_examples(corpus, tokenizer, tmp_path / "two", **QUIET)
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "two")


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("objective", preparation.OBJECTIVES)
def test_the_seed_decides(tmp_path, corpus, tokenizer, objective):
    found = []
    for number, seed in enumerate((3, 3, 4)):
        output = tmp_path / str(number)
        prepare_examples(
            corpus, tokenizer, output, sequence_length=LENGTH, objective=objective, seed=seed, document="line"
        )
        found.append(contents(output))
    assert found[0] == found[1]
    assert sorted(rows_of(tmp_path / "0")) != sorted(rows_of(tmp_path / "2"))


def test_full_rows(tmp_path, corpus, tokenizer):
    prepare_examples(corpus, tokenizer, tmp_path / "out", **QUIET, objective="masked_lm")
    assert words_of(tmp_path / "out") == expected_words(documents(13))
    rows = rows_of(tmp_path / "out")
    assert sorted(len(words.split()) for words, _ in rows)[1:] == [LENGTH] * (len(rows) - 1)


def test_order(tmp_path, corpus, tokenizer):
    prepare_examples(corpus, tokenizer, tmp_path / "out", **QUIET, objective="sentence_order")
    rows = rows_of(tmp_path / "out")
    assert {label for _, label in rows} == {0, 1}
    for words, label in rows:
        first, second, _ = words.split(" [SEP]")
        places = [LETTERS.index(found[0][9]) for found in map(sentences_in, (first, second)) if found]
        assert len(places) < 2 or (places[0] > places[1]) == label
        owners = set(re.findall(r"film (\w \w)", words))
        assert len(owners) <= 1


def test_next_sentence(tmp_path, corpus, tokenizer, monkeypatch):
    monkeypatch.setattr(
        keras_bert_app.data.examples, "_truncate", lambda first, second, room, random: (first, second)
    )
    prepare_examples(corpus, tokenizer, tmp_path / "out", **QUIET)
    for words, label in rows_of(tmp_path / "out"):
        first, second, _ = map(sentences_in, words.split("[SEP]"))
        assert label == (first[-1][:8] != second[0][:8])
        assert label or LETTERS.index(first[-1][9]) + 1 == LETTERS.index(second[0][9])
    assert used_once(tmp_path / "out") == expected_sentences(documents(13))


def test_validation_is_other_documents(tmp_path, tokenizer):
    texts = [text_of(number, 2 if number < 5 else 1) for number in range(240)]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    count = prepare_examples(
        tmp_path / "a.txt", tokenizer, tmp_path / "out", document="line", sequence_length=LENGTH,
        validation_share=0.3,
    )  # fmt: skip
    train, validation = (
        {sentence for words, _ in rows_of(tmp_path / "out", split) for sentence in sentences_in(words)}
        for split in shards.SPLITS
    )
    assert train.isdisjoint(validation)
    assert train | validation == set(expected_sentences(texts))
    assert abs(len(train) - count["train_examples"]) <= 5
    assert abs(len(validation) - count["validation_examples"]) <= 5
    assert abs(len(validation) - 72) < 4 * (240 * 0.3 * 0.7) ** 0.5


def test_one_document_for_validation_goes_to_training(tmp_path, corpus, tokenizer, monkeypatch):
    monkeypatch.setattr(
        keras_bert_app.data.examples, "_truncate", lambda first, second, room, random: (first, second)
    )
    moved = 0
    for seed in range(8):
        options = {"sequence_length": LENGTH, "validation_share": 0.1, "seed": seed}
        pairs = prepare_examples(corpus, tokenizer, tmp_path / f"a{seed}", **options)
        rows = prepare_examples(corpus, tokenizer, tmp_path / f"b{seed}", **options, objective="masked_lm")
        assert used_once(tmp_path / f"a{seed}") == expected_sentences(documents(13))
        assert words_of(tmp_path / f"b{seed}") == expected_words(documents(13))
        moved += bool(rows["validation_examples"]) and not pairs["validation_examples"]
    assert moved


def test_shards_hold_every_document_once(tmp_path, corpus, tokenizer):
    folders = [tmp_path / str(index) for index in range(3)]
    counts = [
        prepare_examples(corpus, tokenizer, folder, **QUIET, objective="masked_lm", shard=(index, 3))
        for index, folder in enumerate(folders)
    ]
    assert [count["documents"] for count in counts] == [5, 4, 4]
    assert [words_of(folder) for folder in folders] == [expected_words(documents(13)[i::3]) for i in range(3)]
    assert shards.Shards(*folders).num_examples("train") == sum(count["train_examples"] for count in counts)


@pytest.mark.parametrize("objective", ["next_sentence", "sentence_order"])
def test_duplicates(tmp_path, corpus, tokenizer, objective):
    options = {**QUIET, "objective": objective, "short_seq_prob": 0.0}
    prepare_examples(corpus, tokenizer, tmp_path / "out", **options, duplicates=5)
    rows = Counter(rows_of(tmp_path / "out"))
    assert len(rows) > 0.6 * rows.total()  # other pairs each time
    alone = [words for words, _ in rows.elements() if words.startswith("[CLS] film b b b was great . [SEP]")]
    assert len(alone) == (0 if objective == "sentence_order" else 5)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
@pytest.mark.parametrize("document", ["blank_line", "line", "file"])
def test_documents_of_files_and_tables(tmp_path, tokenizer, name, document):
    texts = documents(7)
    if name == "a.jsonl":
        text = "\n".join(json.dumps({"id": 1, "body": text}) for text in texts)
    elif name == "a.csv":
        text = "id,body\n" + "\n".join(f"1,{text}" for text in texts)
    else:
        text = ("\n" if document == "line" else "\n\n").join(texts)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_text(text)
    (tmp_path / "in" / "z.txt").write_text("The film was great.")
    count = prepare_examples(
        tmp_path / "in", tokenizer, tmp_path / "out", **QUIET, text_column="body", document=document
    )
    whole = (name, document) == ("a.txt", "file")
    assert count["documents"] == (2 if whole else 8)
    assert count["sentences"] == 29


def test_a_document_as_a_file_goes_over_blank_lines(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("\n\n".join(documents(5)))
    count = prepare_examples(
        tmp_path / "a.txt", tokenizer, tmp_path / "out", **QUIET, document="file", objective="sentence_order"
    )
    assert count["documents"] == 1
    assert any(len(set(re.findall(r"film (\w \w)", words))) > 1 for words, _ in rows_of(tmp_path / "out"))


def test_excluded_documents(tmp_path, corpus, tokenizer):
    texts = documents(13)
    (tmp_path / "test.txt").write_text(f"{texts[3].replace('. ', ' -- ').upper()}\n\nAnother one.")
    (tmp_path / "b").mkdir()
    wrapped = re.sub(r"\s(was)\s", "\t \\1\n", texts[6])  # other white space
    (tmp_path / "b" / "test.txt").write_text(f" {wrapped} \n\n{texts[9]}")
    count = prepare_examples(
        corpus, tokenizer, tmp_path / "out", **QUIET, objective="masked_lm", exclude=tmp_path / "b"
    )
    assert (count["excluded"], count["documents"]) == (2, 11)
    kept = [text for number, text in enumerate(texts) if number not in (6, 9)]
    assert words_of(tmp_path / "out") == expected_words(kept)
    # A list; what is between the words and their case do not count, the words do.
    other = tmp_path / "other.txt"
    other.write_text(texts[4].replace("was", "is"))
    exclude = [tmp_path / "b", str(tmp_path / "test.txt"), other]
    count = prepare_examples(corpus, tokenizer, tmp_path / "more", **QUIET, exclude=exclude)
    assert count["excluded"] == 3


def test_long_sentences_are_split(tmp_path, corpus, tokenizer):
    sizes = (20, 21, 29, 30, 31, 77)  # with the full stop; 20 fit
    long = "\n\n".join(f"Film {'very ' * (size - 2)}." for size in sizes)
    (tmp_path / "b.txt").write_text(long)
    sources = [corpus, tmp_path / "b.txt"]
    count = prepare_examples(sources, tokenizer, tmp_path / "out", **QUIET, objective="masked_lm")
    assert count["split_sentences"] == 5
    assert count["sentences"] == sum(1 + index % 7 for index in range(13)) + len(sizes)
    assert words_of(tmp_path / "out") == expected_words([*documents(13), long])
    count = dict.fromkeys(count, 0)
    for text, size in zip(long.split("\n\n"), sizes, strict=True):
        (found,) = tokenize_documents([text], tokenizer, "en", 20, count)
        parts = np.diff(found.ends, prepend=0).tolist()
        assert [VOCABULARY[piece] for piece in found.pieces] == text.lower().split()
        assert parts == ([size] if size == 20 else [10] * (size // 10) + [size % 10] * bool(size % 10))


@pytest.mark.parametrize("together", [1, 3, 512])
def test_tokenizing_together_changes_nothing(together, tokenizer, monkeypatch):
    monkeypatch.setattr(data_documents, "TOGETHER", together)
    texts = ["", documents(5)[4], "\x7f", *documents(9), " ", "\x7f. \x7f"]
    count = Counter()
    found = list(tokenize_documents(texts, tokenizer, "en", 20, count))
    wanted = [documents(5)[4], *documents(9), "."]
    assert count["documents"] == len(found) == len(wanted)
    for one, text in zip(found, wanted, strict=True):
        words = text.lower().replace(".", " .").split()
        assert [VOCABULARY[piece] for piece in one.pieces] == words
        assert one.ends.tolist() == [place + 1 for place, word in enumerate(words) if word == "."]


@pytest.mark.parametrize("chunk", [1, 40, 90, 1000])
@pytest.mark.parametrize("number", [2, 3, 4, 5, 6, 7, 13])
def test_parts_of_a_corpus(tmp_path, tokenizer, monkeypatch, chunk, number):
    monkeypatch.setattr(preparation, "CHUNK", chunk)
    monkeypatch.setattr(
        keras_bert_app.data.examples, "_truncate", lambda first, second, room, random: (first, second)
    )
    texts = documents(number)
    (tmp_path / "a.txt").write_text("\n\n".join(texts))
    prepare_examples(tmp_path / "a.txt", tokenizer, tmp_path / "out", **QUIET)
    assert used_once(tmp_path / "out") == expected_sentences(texts)
    prepare_examples(tmp_path / "a.txt", tokenizer, tmp_path / "full", **QUIET, objective="masked_lm")
    assert words_of(tmp_path / "full") == expected_words(texts)


def test_parts_are_written_as_they_come(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "CHUNK", 40)
    lists = []
    split = preparation._Split(
        tmp_path, "train", lambda given, random: lists.append(list(given)) or [], 1, [0]
    )
    found = list(tokenize_documents(documents(13), tokenizer, "en", 20, Counter()))
    for one in found:
        split.add(one)
        assert sum(len(d.pieces) for d in split.documents[:-4]) <= 40
    assert split.finish() == []
    assert len(lists) > 3
    assert min(map(len, lists)) == 2
    assert [id(one) for given in lists for one in given] == list(map(id, found))


def test_progress(tmp_path, corpus, tokenizer, monkeypatch, capsys):
    monkeypatch.setattr(data_documents, "SAY_EVERY", 0)
    count = prepare_examples(corpus, tokenizer, tmp_path / "out", **QUIET)
    assert f"13 documents, {count['pieces']} word pieces\n" in capsys.readouterr().err


# What goes wrong


def leaves_nothing(folder, *names):
    return {path.name for path in folder.iterdir()} == set(names)


def test_a_folder_appears_whole_or_not_at_all(tmp_path, corpus, tokenizer, monkeypatch):
    serialize, calls = tfrecord.serialize, []

    def fail(example):
        calls.append(example)
        if len(calls) == 20:
            raise OSError(28, "No space left on device")
        return serialize(example)

    monkeypatch.setattr(tfrecord, "serialize", fail)
    with pytest.raises(OSError, match=r"cannot write .*out: No space left on device. Free space there"):
        prepare_examples(corpus, tokenizer, tmp_path / "out", **QUIET)
    assert len(calls) == 20
    assert leaves_nothing(tmp_path, "a.txt")
    prepare_examples(corpus, tokenizer, tmp_path / "out", **QUIET)
    assert leaves_nothing(tmp_path, "a.txt", "out")


def test_files_that_cannot_be_read(tmp_path, corpus, tokenizer, monkeypatch):
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"b.txt is not UTF-8"):
        prepare_examples([corpus, tmp_path / "b.txt"], tokenizer, tmp_path / "out", **QUIET)
    assert leaves_nothing(tmp_path, "a.txt", "b.txt")

    def read(*_, **__):
        yield "Film b."
        raise PermissionError(13, "Permission denied", "b.txt")

    monkeypatch.setattr(preparation.corpus, "read_documents", read)
    with pytest.raises(ValueError, match=r"the corpus cannot be read: .*Permission denied: 'b.txt'"):
        prepare_examples(corpus, tokenizer, tmp_path / "out", **QUIET)
    assert leaves_nothing(tmp_path, "a.txt", "b.txt")


def test_the_output_exists(tmp_path, corpus, tokenizer):
    with pytest.raises(FileExistsError, match="a.txt exists: choose another output folder, or remove it"):
        prepare_examples(corpus, tokenizer, corpus)


def test_missing_files(tmp_path, corpus, tokenizer):
    with pytest.raises(FileNotFoundError, match="there is no file .*none.txt"):
        prepare_examples(tmp_path / "none.txt", tokenizer, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="there is no file .*none.txt"):
        prepare_examples(corpus, tokenizer, tmp_path / "out", exclude=[tmp_path / "none.txt"])
    with pytest.raises(FileNotFoundError, match="there is no vocabulary .*none.txt"):
        prepare_examples(corpus, tmp_path / "none.txt", tmp_path / "out")
    assert leaves_nothing(tmp_path, "a.txt")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"sequence_length": 7}, "sequence_length=7: give a whole number of at least 8"),
        ({"sequence_length": 64.0}, "sequence_length=64.0: give a whole number"),
        ({"objective": "nsp"}, "objective='nsp': one of next_sentence, sentence_order, masked_lm"),
        ({"duplicates": 0}, "duplicates=0: give a whole number of at least 1"),
        ({"duplicates": 2, "objective": "masked_lm"}, "duplicates=2 needs pairs: .* Give 1"),
        ({"duplicates": True}, "duplicates=True: give a whole number of at least 1"),
        ({"short_seq_prob": -0.1}, "short_seq_prob=-0.1: give a share of at least 0 and below 1"),
        ({"short_seq_prob": 1}, "short_seq_prob=1: give a share"),
        ({"validation_share": 1.0}, "validation_share=1.0: give a share of at least 0 and below 1"),
        ({"validation_share": float("nan")}, "validation_share=nan: give a share"),
        ({"seed": -1}, "seed=-1: give a whole number of at least 0"),
        ({"seed": None}, "seed=None: give a whole number of at least 0"),
        ({"document": "page"}, "document='page': give one of blank_line, line, file"),
        ({"shard": 3}, r"shard=3: give \(index, count\)"),
        ({"shard": (3, 3)}, r"shard=\(3, 3\): give \(index, count\)"),
        ({"language": "English"}, "language='English': give a code"),
    ],
)
def test_options(tmp_path, corpus, tokenizer, option, message):
    with pytest.raises(ValueError, match=message):
        prepare_examples(corpus, tokenizer, tmp_path / "out", **option)
    assert leaves_nothing(tmp_path, "a.txt")


@pytest.mark.parametrize("objective", preparation.OBJECTIVES)
def test_no_text(tmp_path, tokenizer, objective):
    (tmp_path / "a.txt").write_text(" \n\n\x7f\n\n")
    with pytest.raises(ValueError, match=r"the corpus is empty: there is no word in it. Give text"):
        prepare_examples(tmp_path / "a.txt", tokenizer, tmp_path / "out", objective=objective)
    assert leaves_nothing(tmp_path, "a.txt")


def test_all_excluded(tmp_path, corpus, tokenizer):
    with pytest.raises(
        ValueError, match="the corpus is empty: there is no word in it but the 13 excluded documents. Give"
    ):
        prepare_examples(corpus, tokenizer, tmp_path / "out", exclude=corpus)
    assert leaves_nothing(tmp_path, "a.txt")


def test_one_document(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text(documents(7)[6])
    with pytest.raises(
        ValueError,
        match="of 1 documents one is for training, so that no next sentence .*blank_line",
    ):
        prepare_examples(tmp_path / "a.txt", tokenizer, tmp_path / "out", **QUIET)
    assert leaves_nothing(tmp_path, "a.txt")
    for objective in ("sentence_order", "masked_lm"):
        prepare_examples(tmp_path / "a.txt", tokenizer, tmp_path / objective, **QUIET, objective=objective)


@pytest.mark.parametrize("objective", preparation.OBJECTIVES)
def test_all_documents_for_validation(tmp_path, tokenizer, objective):
    (tmp_path / "a.txt").write_text("\n\n".join(documents(2)))
    with pytest.raises(
        ValueError, match="all 2 documents were taken for validation: give more, or none for it"
    ):
        prepare_examples(
            tmp_path / "a.txt", tokenizer, tmp_path / "out", objective=objective, validation_share=0.999
        )
    assert leaves_nothing(tmp_path, "a.txt")


def test_sentences_without_an_order(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("\n\n".join(documents(7, sentences=1)))
    with pytest.raises(ValueError, match="no document for training has two sentences"):
        prepare_examples(tmp_path / "a.txt", tokenizer, tmp_path / "out", **QUIET, objective="sentence_order")
    assert leaves_nothing(tmp_path, "a.txt")


@pytest.mark.parametrize("objective", preparation.OBJECTIVES)
def test_text_without_punctuation(tmp_path, tokenizer, objective):
    texts = ["film " * 30, "plot " * 40, "The cast was great."]
    (tmp_path / "a.txt").write_text("\n\n".join(texts))

    def prepare():
        return prepare_examples(tmp_path / "a.txt", tokenizer, tmp_path / "out", **QUIET, objective=objective)

    if objective == "masked_lm":  # it needs no sentences
        assert prepare()["split_sentences"] == 2
        assert words_of(tmp_path / "out") == expected_words(texts)
        return
    with pytest.raises(
        ValueError, match="2 of 3 sentences are longer than sequence_length=23: .* no punctuation. Raise"
    ):
        prepare()
    assert leaves_nothing(tmp_path, "a.txt")
