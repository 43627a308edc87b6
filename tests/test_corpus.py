import gzip
import json

import pytest
from conftest import data_file

from keras_bert_app.data import corpus, readers
from keras_bert_app.data.corpus import read_documents, shuffled, split_sentences

TEXT = "one,\r\nstill\x85 one\n \nline two\n\n\n\u2028two\nlast"


def write(path, text):
    data = text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("blank_line", ["one,\nstill\x85 one", "line two", "\u2028two\nlast"]),
        ("line", ["one,", "still\x85 one", "line two", "\u2028two", "last"]),
        ("file", [TEXT.replace("\r\n", "\n")]),
    ],
)
def test_text_files(tmp_path, name, document, expected):
    assert list(read_documents(write(tmp_path / name, TEXT), document=document)) == expected


@pytest.mark.parametrize("document", corpus.DOCUMENTS)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"body": "one\\n\\nstill"}\n{"body": " \\n"}\n{"body": "tw\\ud83do"}\n'),
        ("a.jsonl.gz", '{"body": "one\\n\\nstill"}\n{"body": "\\ud83d"}\n{"body": "two"}\n'),
        ("a.csv", 'body\n"one\n\nstill"\n""\ntwo\n'),
    ],
)
def test_a_row_of_a_table_is_a_document(tmp_path, name, text, document):
    path = write(tmp_path / name, text)
    assert list(read_documents(path, "body", document)) == ["one\n\nstill", "two"]


def test_tsv(tmp_path):
    path = write(tmp_path / "a.tsv", 'id\ttext\n1\t"one\n2\ttwo\n')
    assert list(read_documents(path)) == ['"one', "two"]


def test_folders_patterns_and_lists(tmp_path):
    write(tmp_path / "b.txt", "b")
    write(tmp_path / "a" / "z.txt.gz", "az")
    write(tmp_path / "a" / "c" / "x.jsonl", json.dumps({"text": "acx"}))
    write(tmp_path / "c [1]" / "x.csv", "text\ncx\n")
    write(tmp_path / "a" / "read me.md", "no text")
    write(tmp_path / "a" / ".hidden.txt", "no text")
    (tmp_path / "a" / "folder.txt").mkdir()
    everything = ["acx", "az", "b", "cx"]
    assert list(read_documents(tmp_path)) == everything
    assert list(read_documents(str(tmp_path / "*"))) == everything
    assert list(read_documents(str(tmp_path / "**" / "*.*z"))) == ["az"]
    assert list(read_documents(tmp_path / "c [1]")) == ["cx"]
    assert list(read_documents([tmp_path / "c [1]", tmp_path / "b.txt", str(tmp_path / "a*")])) == [
        "cx",
        "b",
        "acx",
        "az",
    ]
    with pytest.raises(ValueError, match="read me.md: the name must end in .txt"):
        read_documents(str(tmp_path / "a" / "*"))


def test_what_is_no_corpus(tmp_path):
    write(tmp_path / "a.md", "text")
    with pytest.raises(FileNotFoundError, match="there is no file .*b.txt: check the path or pattern"):
        read_documents([tmp_path / "b.txt"])
    with pytest.raises(FileNotFoundError, match="holds no .txt, .csv, .tsv, .jsonl file: check the folder"):
        read_documents(tmp_path)
    with pytest.raises(FileNotFoundError, match="there are no files: give a path, a pattern or a folder"):
        read_documents([])
    with pytest.raises(ValueError, match="a.md: the name must end in .txt"):
        read_documents(tmp_path / "a.md")
    with pytest.raises(ValueError, match="document='page': give one of blank_line, line, file"):
        read_documents(write(tmp_path / "a.txt", ""), document="page")
    assert list(read_documents(tmp_path / "a.txt")) == []


@pytest.mark.parametrize("shard", [(3, 3), (-1, 3), (0, 0), (0, 1.0), (0,), "01", 3, None, (False, 2)])
def test_what_is_no_shard(tmp_path, shard):
    with pytest.raises(ValueError, match="shard=.*: give .index, count., an index from 0 to count - 1"):
        read_documents(write(tmp_path / "a.txt", "a"), shard=shard)


@pytest.mark.parametrize("document", corpus.DOCUMENTS)
def test_damaged_files(tmp_path, document):
    (tmp_path / "a.txt").write_bytes("Zwölf".encode("latin1"))
    with pytest.raises(ValueError, match=r"a.txt is not UTF-8: byte 0xf6"):
        list(read_documents(tmp_path / "a.txt", document=document))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a line\n" * 1000)[:-9])
    with pytest.raises(ValueError, match=r"a.txt.gz is damaged or cut short"):
        list(read_documents(tmp_path / "a.txt.gz", document=document))
    with pytest.raises(ValueError, match="row 1: there is no 'text' .found: body"):
        list(read_documents(write(tmp_path / "a.jsonl", '{"body": "a"}'), document=document))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_shards_hold_each_document_once(tmp_path, count):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.txt", "\n\n".join(f"{name}{number}" for number in range(11)))
    everything = list(read_documents(tmp_path))
    assert len(set(everything)) == 22
    for index in range(count):
        assert list(read_documents(tmp_path, shard=(index, count))) == everything[index::count]


def test_a_file_is_opened_when_its_turn_comes(tmp_path, monkeypatch):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.txt", f"{name}1\n\n{name}2\n")
    opened = []

    def open_text(path):
        opened.append(path.name)
        return readers.open_text(path)

    monkeypatch.setattr(corpus, "open_text", open_text)
    documents = read_documents(tmp_path)
    assert opened == []
    assert [next(documents), next(documents)] == ["a1", "a2"]
    assert opened == ["a.txt"]
    assert next(documents) == "b1"
    assert opened == ["a.txt", "b.txt"]


# Sentences


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("", []),
        (" \n\n\t", []),
        ("No full stop", ["No full stop"]),
        ("Mr. Brown met Dr. Green. They talked.", ["Mr. Brown met Dr. Green.", "They talked."]),
        ("J. R. R. Grey wrote it. It sold.", ["J. R. R. Grey wrote it.", "It sold."]),
        ("It cost $3.14 in May. Then 2.5 more.", ["It cost $3.14 in May.", "Then 2.5 more."]),
        ("Apples, pears, etc. and so on. The end!", ["Apples, pears, etc. and so on.", "The end!"]),
        ('He said "Stop! Go." Then he left.', ['He said "Stop! Go."', "Then he left."]),
        ("“Why?” “No.” She left.", ["“Why?”", "“No.”", "She left."]),
        ("Wait... what? No way!! Well.", ["Wait... what?", "No way!!", "Well."]),
        ("Great.<br /><br />I liked it.", ["Great.", "<br /><br />I liked it."]),
        ("A line\nthat goes\r\n  on. Then it\nends.", ["A line that goes on.", "Then it ends."]),
        ("CHAPTER 1\n\nA heading\n \t\nends. So", ["CHAPTER 1", "A heading", "ends.", "So"]),
    ],
)
def test_sentences(document, expected):
    assert split_sentences(document) == expected


@pytest.mark.parametrize(("opening", "closing"), ["“”", '""'])
def test_long_speeches_are_split(opening, closing):
    told = [f"{opening}I saw a film.", *["Mr. Brown saw it."] * 17, f"It was good.{closing}"]
    after = f"{opening}And then?{closing}"
    assert split_sentences(" ".join([*told, after])) == [*told, after]


def test_languages():
    assert split_sentences("Am 3. Mai kam er. Gut.", "de") == ["Am 3. Mai kam er.", "Gut."]
    assert split_sentences("Am 3. Mai kam er. Gut.", "en") == ["Am 3.", "Mai kam er.", "Gut."]
    assert split_sentences("你好。我很好。", "zh-hans") == ["你好。", "我很好。"]
    for language in ("english", "EN", "", "pt_br"):
        with pytest.raises(ValueError, match="language=.*: give a code in small letters, such as en"):
            split_sentences("a", language)


def test_no_character_of_a_novel_is_lost():
    path = data_file("text/gutenberg/Dracula_345.txt.gz")
    (novel,) = read_documents(path, document="file")
    sentences = split_sentences(novel)
    assert "".join("".join(sentences).split()) == "".join(novel.split())
    words = [len(sentence.split()) for sentence in sentences]
    assert sum(number for number in words if number > 100) < 0.01 * sum(words)


# Order


def test_shuffled():
    numbers = range(101)
    whole = list(shuffled(numbers, 101, seed=5))
    assert whole == list(shuffled(iter(numbers), 101, seed=5))
    assert whole != list(shuffled(numbers, 101, seed=6))
    assert whole != sorted(whole)
    assert list(shuffled(numbers, 1, seed=5)) == list(numbers)
    assert list(shuffled([], 7, seed=5)) == []
    for size in (7, 101, 1000):
        assert sorted(shuffled(numbers, size, seed=[5, 0])) == list(numbers)


def test_shuffled_holds_back_no_more_than_its_buffer():
    read = []
    documents = shuffled((read.append(number) or number for number in range(101)), 7, seed=5)
    assert read == []
    for number, document in enumerate(documents, start=1):
        assert document < len(read) == min(7 + number, 101)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "7", None])
def test_what_is_no_buffer_size(size):
    with pytest.raises(ValueError, match="buffer_size=.*: give a whole number of at least 1"):
        shuffled([], size, seed=5)
