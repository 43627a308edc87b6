import gzip
import hashlib
import io
import json
import pickle
import tarfile

import keras
import numpy as np
import pytest
from conftest import data_file

import keras_bert_app as kba
from keras_bert_app.data import datasets, readers

ROWS = [('A film, with "quotes"', "good"), ("Zwölf\nBoxkämpfer\x85", "bad"), ("third", "good")]


def write(path, text):
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


CSV = 'label,text\ngood,"A film, with ""quotes"""\nbad,"Zwölf\nBoxkämpfer\x85"\ngood,third\n'
JSONL = "".join(json.dumps({"text": text, "label": label, "id": 1}) + "\n" for text, label in ROWS)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.csv", CSV), ("a.csv.gz", CSV), ("a.csv", "\ufeff" + CSV), ("a.jsonl", JSONL), ("a.jsonl.gz", JSONL)],
)
def test_tables(tmp_path, name, text):
    assert kba.read_labelled(write(tmp_path / name, text)) == ROWS


def test_tsv_has_no_quotation_marks(tmp_path):
    path = write(tmp_path / "a.tsv", 'sentence\tgold\n"An open quote\t1\nnext\t0\n')
    assert kba.read_labelled(path, "sentence", "gold") == [('"An open quote', 1), ("next", 0)]


def test_labels_of_csv_are_numbers_only_if_all_are(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na,1\nb,-3\n")
    assert kba.read_labelled(path) == [("a", 1), ("b", -3)]
    path = write(tmp_path / "a.csv", "text,label\na,01\nb,1\n")
    assert kba.read_labelled(path) == [("a", "01"), ("b", "1")]
    path = write(tmp_path / "a.csv", "text,label\na,1\nb,x\n")
    assert kba.read_labelled(path) == [("a", "1"), ("b", "x")]


def test_one_folder_for_each_label(tmp_path):
    for label in ("pos", "neg", "unsup"):
        (tmp_path / label).mkdir()
        for number in range(2):
            write(tmp_path / label / f"{number}.txt", f"{label} {number}")
    expected = [("neg 0", "neg"), ("neg 1", "neg"), ("pos 0", "pos"), ("pos 1", "pos")]
    assert kba.read_labelled(tmp_path) == expected


def test_iterables():
    found = kba.read_labelled((text, label) for text, label in ROWS)
    assert pickle.loads(pickle.dumps(found)) == found == ROWS
    assert kba.read_labelled([("a", np.int64(3))]) == [("a", 3)]


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("a.csv", "", ValueError, "is empty"),
        ("a.csv", "text,label\n", ValueError, "is empty"),
        ("a.csv", "review,label\na,b\n", ValueError, "there is no 'text' .found: review, label"),
        ("a.csv", "text,label\nonly text\n", ValueError, "row 1: 'label' has no value"),
        ("a.csv", "text,label\na,\n", ValueError, "row 1: the label is ''"),
        ("a.csv", "text,label\na,b\n  ,b\n", ValueError, "row 2: the text is empty"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text"\n', ValueError, "after row 1"),
        ("a.jsonl", '{"text": "a", "label": true}\n', ValueError, "row 1: the label is True"),
        ("a.jsonl", '{"text": "a", "label": NaN}\n', ValueError, "row 1: the label is nan"),
        ("a.jsonl", '{"text": "a", "label": ["b", ""]}\n', ValueError, "row 1: the label is ''"),
        ("a.jsonl", '{"text": 7, "label": 1}\n', ValueError, "row 1: the text is 7"),
        ("a.jsonl", '{"text": "a", "label": null}\n', ValueError, "row 1: 'label' has no value"),
        ("a.jsonl", '["a", 1]\n', ValueError, "row 1: there is no 'text'"),
        (
            "a.csv",
            "text,label\nA film, good\nA film, with comma,good\n",
            ValueError,
            "row 2: there are more fields",
        ),
        (
            "a.tsv",
            "text\tlabel\na\tb\tc\n",
            ValueError,
            "row 1: there are more fields .* is 'c'. Put a space",
        ),
        ("a.csv", 'label,text\ngood,"never closed\nbad,b\n', ValueError, "unexpected end of data"),
        ("a.jsonl", '{"text": "\\ud83d", "label": 1}\n', ValueError, "row 1: the text has half a character"),
        (
            "a.csv",
            "text,label\na,1\nb, NaN\n",
            ValueError,
            "row 2: the label is 'NaN', all others are numbers",
        ),
        ("a.tsv", "text\tlabel\na\t-inf\nb\t2.5\n", ValueError, "row 1: the label is '-inf'"),
        ("a.csv", "text,label,text\na,b,c\n", ValueError, "two columns with the name 'text'"),
        ("a.csv", "text,label\na\rb,c\n", ValueError, "after row 0: a carriage return"),
        ("a.tsv", "text\tlabel\na\tb\nc\rd\te\n", ValueError, "after row 1: a carriage return"),
        ("a.xlsx", "", ValueError, "the name must end in .csv"),
        (
            "a.csv",
            "text,label\n" + "x" * 1_000_000 + ",b\n",
            ValueError,
            "row 1: the text has 1,000,000 bytes",
        ),
    ],
)
def test_bad_files(tmp_path, name, text, error, message):
    path = write(tmp_path / name, text)
    with pytest.raises(error, match=message) as caught:
        kba.read_labelled(path)
    assert str(path) in str(caught.value)


def test_white_space_around_a_label_is_no_part_of_it(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\na,pos \nb, pos\n")
    assert (
        kba.read_labelled(path)
        == [("a", "pos"), ("b", "pos")]
        == kba.read_labelled([("a", "pos "), ("b", "pos")])
    )


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r\r\n"])
def test_a_carriage_return_within_a_line_makes_no_two_texts(tmp_path, ending):
    path = tmp_path / "a.txt"
    path.write_bytes(f"a{ending}b\rc{ending}".encode())
    assert list(readers.read_texts(path)) == ["a", "b\rc"]
    quoted = tmp_path / "a.csv"
    quoted.write_bytes(b'text\n"b\rc"\n')
    assert list(readers.read_texts(quoted)) == ["b\rc"]


def test_a_carriage_return_ends_a_line_where_nothing_else_does(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\rb\r")
    assert list(readers.read_texts(tmp_path / "a.txt")) == ["a", "b"]
    (tmp_path / "a.csv").write_bytes(b'text,label\ra,1\r"b, c",2')
    assert kba.read_labelled(tmp_path / "a.csv") == [("a", 1), ("b, c", 2)]
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a", "label": 1}\r{"text": "b", "label": 2}\r')
    assert kba.read_labelled(tmp_path / "a.jsonl") == [("a", 1), ("b", 2)]


def test_empty_names_of_columns_may_be_many(tmp_path):
    path = write(tmp_path / "a.csv", "v1,v2,,\nham,a,,\n")
    assert kba.read_labelled(path, "v2", "v1") == [("a", "ham")]


def test_a_text_of_just_under_the_limit(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\n" + "x" * 999_999 + ",b\n")
    assert len(kba.read_labelled(path)[0][0]) == 999_999


def test_missing_and_not_utf8_and_cut_short(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        kba.read_labelled(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes("text,label\nZwölf,b\n".encode("latin1"))
    with pytest.raises(ValueError, match="is not UTF-8: byte 0xf6"):
        kba.read_labelled(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes("text,label\nA,b\n".encode("utf-16"))
    with pytest.raises(ValueError, match="is not UTF-8: byte 0xff. .* iconv -f utf-16"):
        kba.read_labelled(tmp_path / "a.csv")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(CSV.encode() * 1000)[:-20])
    with pytest.raises(ValueError, match="is damaged or cut short"):
        kba.read_labelled(tmp_path / "a.csv.gz")
    (tmp_path / "b.csv.gz").write_bytes(b"text,label\n")
    with pytest.raises(ValueError, match="is damaged or cut short"):
        kba.read_labelled(tmp_path / "b.csv.gz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no folders"):
        kba.read_labelled(tmp_path / "empty")


def test_bad_iterables():
    with pytest.raises(ValueError, match="the data is empty"):
        kba.read_labelled([])
    with pytest.raises(ValueError, match="row 1: 'text' is no pair"):
        kba.read_labelled(["text"])
    with pytest.raises(ValueError, match="row 2: the label is True"):
        kba.read_labelled([("a", 1), ("a", True)])


def test_texts(tmp_path):
    lines = write(tmp_path / "a.txt", "one\ntwo \x85\r\n")
    assert list(readers.read_texts(lines)) == ["one", "two \x85"]
    table = write(tmp_path / "a.csv.gz", "t,x\none,1\ntwo,2\n")
    assert list(readers.read_texts(table, "t")) == ["one", "two"]
    with pytest.raises(ValueError, match=r"a.text: the name must end in .txt, .csv, .tsv, .jsonl"):
        list(readers.read_texts(tmp_path / "a.text"))
    assert readers.check_texts("one") == ["one"]
    with pytest.raises(ValueError, match="text 1: the text is empty"):
        readers.check_texts(["one", " "])
    with pytest.raises(ValueError, match="text 0: the text is None"):
        readers.check_texts([None])


@pytest.fixture
def imdb(tmp_path, monkeypatch):
    """A small archive in the layout of the published one, with its hash in the place of that one's."""
    path = imdb_archive(tmp_path / "aclImdb_v1.tar.gz")
    monkeypatch.setattr(datasets, "IMDB_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def imdb_archive(path):
    with tarfile.open(path, "w:gz") as archive:
        for name in ("train/pos/1_9", "train/neg/0_2", "test/pos/0_10", "test/neg/7_1", "train/unsup/0_0"):
            data = f"a review <br /> of {name}".encode()
            member = tarfile.TarInfo(f"aclImdb/{name}.txt")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


EXPECTED_IMDB = (
    [("a review <br /> of train/neg/0_2", "negative"), ("a review <br /> of train/pos/1_9", "positive")],
    [("a review <br /> of test/neg/7_1", "negative"), ("a review <br /> of test/pos/0_10", "positive")],
)


def test_imdb_archive_and_folder(tmp_path, imdb):
    assert kba.load_imdb(imdb) == EXPECTED_IMDB
    with tarfile.open(imdb) as opened:
        opened.extractall(tmp_path, filter="data")
    assert kba.load_imdb(tmp_path / "aclImdb") == EXPECTED_IMDB


def test_imdb_is_downloaded_with_its_hash(imdb, monkeypatch):
    def get_file(name, origin, file_hash):
        assert (name, origin, len(file_hash)) == ("aclImdb_v1.tar.gz", datasets.IMDB_URL, 64)
        return str(imdb)

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    assert kba.load_imdb() == EXPECTED_IMDB


def test_no_imdb(tmp_path, imdb):
    with pytest.raises(FileNotFoundError, match="there is no"):
        kba.load_imdb(tmp_path / "none")
    with pytest.raises(ValueError, match="no train and test part"):
        kba.load_imdb(tmp_path)
    data = bytearray(imdb.read_bytes())
    data[len(data) // 2] ^= 1  # tarfile would read on as if nothing were wrong
    imdb.write_bytes(data)
    with pytest.raises(ValueError, match="is not the published archive, its SHA-256 differs"):
        kba.load_imdb(imdb)


def test_sample():
    train, test = kba.load_sample()
    assert (len(train), len(test)) == (280, 80)
    texts = [text for text, _ in train + test]
    assert len(set(texts)) == 360
    assert all(10 <= len(text.split()) <= 70 for text in texts)
    for part in (train, test):
        labels = [label for _, label in part]
        assert labels.count("positive") == labels.count("negative") == len(part) / 2


def test_real_imdb_and_glue():
    rows = kba.read_labelled(data_file("imdb/test.jsonl.gz"))
    assert (len(rows), sum(label for _, label in rows)) == (25_000, 12_500)
    assert len(kba.read_labelled(data_file("glue/SST-2/dev.tsv.gz"), "sentence")) == 872
    assert len(kba.read_labelled(data_file("glue/MRPC/train.tsv.gz"), "#1 String", "Quality")) == 3668


def test_pairs_and_several_labels_and_numbers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("first,second,label\na,b,x|y\nc,d,\ne,f,y | x\n")
    assert kba.read_labelled(path, "first", pair_column="second", label_separator="|") == [
        (("a", "b"), ["x", "y"]), (("c", "d"), []), (("e", "f"), ["y", "x"]),
    ]  # fmt: skip
    path.write_text("text,label\na,1.5\nb,2\n")
    assert kba.read_labelled(path) == [("a", 1.5), ("b", 2.0)]
    path.write_text("text,label\na,5e-05\nb,+.5\nc, 1.\n")
    assert kba.read_labelled(path) == [("a", 5e-05), ("b", 0.5), ("c", 1)]
    path.write_text("text,label\na,0.0\nb,1.0\n")  # as pandas writes whole numbers
    assert [str(label) for _, label in kba.read_labelled(path)] == ["0", "1"]
    path.write_text("text,label\na,1.2.3\nb,2.0\n")
    assert kba.read_labelled(path) == [("a", "1.2.3"), ("b", "2.0")]
    path.write_text("text,label\na,1.5\nb,01\n")
    assert kba.read_labelled(path) == [("a", "1.5"), ("b", "01")]
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": ["x", 2]}\n{"text": "b", "label": "x|y"}\n')
    assert kba.read_labelled(path, label_separator="|") == [("a", ["x", 2]), ("b", ["x", "y"])]
    with pytest.raises(ValueError, match="row 1 has the label 1 more than once: .* not a 0 or 1 for each"):
        kba.read_labelled([("a", np.array([0, 1, 1]))])
    assert kba.read_labelled([(["a", "b"], 1)]) == [(("a", "b"), 1)]
    for pair, message in ((("a", " "), "row 1, second: the text is empty"), (("a",), "row 1 is .*two texts")):
        with pytest.raises(ValueError, match=message):
            kba.read_labelled([(pair, 1)])


def test_a_file_without_a_line_of_names(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("gj04\t1\t\tOur friends \"won't buy\n\ngj04\t0\t*\tOne more\n")
    assert kba.read_labelled(path, "4", "2") == [("Our friends \"won't buy", 1), ("One more", 0)]
    with pytest.raises(ValueError, match="row 1: there is no '5' .found: 1, 2, 3, 4"):
        kba.read_labelled(path, "5", "2")
