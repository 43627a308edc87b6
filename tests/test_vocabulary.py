import gzip
import json

import pytest

import keras_bert_app as kba

TEXTS = ["the film was great, the films were great!", "A great film: I loved it", "Café, café. 日本"] * 5


def test_words_become_pieces_and_no_text_is_unknown():
    tokens = kba.train_vocabulary(texts=TEXTS, size=120)
    assert tokens[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(set(tokens)) == len(tokens) <= 120
    assert {"film", "great", "cafe", ",", "日"} <= set(tokens)
    assert "##," not in tokens  # punctuation is always a word
    tokenizer = kba.BertTokenizer(tokens)
    assert not (tokenizer(TEXTS).values.numpy() == 1).any()


def test_casing_and_accents():
    tokens = kba.train_vocabulary(texts=TEXTS, size=130, lowercase=False)
    assert {"Café", "café", "A"} <= set(tokens)
    tokens = kba.train_vocabulary(texts=TEXTS, size=130, strip_accents=False)
    assert "café" in tokens
    assert "Café" not in tokens


def test_files_are_read_as_a_stream(tmp_path):
    half = TEXTS[:8], TEXTS[8:]
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"review": text}) + "\n" for text in half[0])
    (tmp_path / "b.txt").write_text("\n".join(half[1]), encoding="utf-8")
    expected = kba.train_vocabulary(texts=TEXTS, size=100)
    found = kba.train_vocabulary(
        [tmp_path / "a.jsonl.gz", f"{tmp_path}/*.txt"],
        text_column="review",
        size=100,
        output=tmp_path / "vocab.txt",
    )
    assert found == expected
    assert kba.BertTokenizer(tmp_path / "vocab.txt").vocabulary == tuple(expected)
    assert kba.train_vocabulary(tmp_path / "b.txt", texts=half[0], size=100) == expected


def test_the_same_texts_give_the_same_vocabulary():
    """Hugging Face's trainer numbers characters at random: ties must not follow it."""
    words = [f"{a}{b}{c}" for a in "abcdefgh" for b in "ijklmnop" for c in "qrstuvwx"]  # all ties
    runs = {tuple(kba.train_vocabulary(texts=[" ".join(words)], size=200, min_frequency=1)) for _ in range(8)}
    assert len(runs) == 1
    backwards = kba.train_vocabulary(texts=[" ".join(words[::-1])], size=200, min_frequency=1)
    assert runs == {tuple(backwards)}


def test_reserved_tokens_and_the_alphabet():
    tokens = kba.train_vocabulary(
        texts=TEXTS, size=60, reserved_tokens=["[unused0]", "[E1]"], limit_alphabet=9
    )
    assert tokens[5:7] == ["[unused0]", "[E1]"]
    characters = [t for t in tokens if len(t) == 1]
    assert len(characters) == 9
    assert "日" not in tokens


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"files": "nothing-*.txt"}, FileNotFoundError, r"there is no file nothing-\*.txt"),
        ({"texts": iter(["a"])}, ValueError, "only once: give a list"),
        ({"texts": ["a"], "output": "."}, IsADirectoryError, "is a folder: give the path of a file"),
        ({"texts": []}, ValueError, "there is no text to learn from"),
        ({"texts": [" \t"]}, ValueError, "there is no text to learn from"),
        ({"texts": ["abc", 3]}, TypeError, "text 1 is 3"),
        ({"texts": "a film"}, ValueError, "texts='a film': give a list"),
        ({"texts": ["a"], "reserved_tokens": "[E]"}, ValueError, r"reserved_tokens='\[E\]': give a list"),
        ({"texts": ["abc"], "reserved_tokens": [""]}, ValueError, "line 6 is blank"),
        ({"texts": ["abc"], "reserved_tokens": ["x\ny"]}, ValueError, "must be on one line"),
        ({"texts": ["abc"], "reserved_tokens": ["b"]}, ValueError, "holds 'b' twice"),
        ({"texts": ["abc"], "size": 60.0}, ValueError, "size=60.0: give a whole number of at least 1"),
        ({"texts": ["abc"], "min_frequency": -3}, ValueError, "min_frequency=-3"),
        ({"texts": ["abc"], "limit_alphabet": 0}, ValueError, "limit_alphabet=0"),
        ({"texts": ["abc"], "size": 10}, ValueError, "size=10 is less .* the 3 characters .* need, 11"),
        (
            {"texts": ["abc"], "reserved_tokens": ["[CLS]"]},
            ValueError,
            r"reserved_tokens .* holds '\[CLS\]' twice",
        ),
    ],
)
def test_bad_input(options, error, message):
    with pytest.raises(error, match=message):
        kba.train_vocabulary(**options)


def test_a_text_in_a_file_that_is_no_string(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a film"}\n{"text": 5}\n')
    with pytest.raises(ValueError, match=r"a.jsonl, row 2: the text is 5 \(int\): put quotation marks"):
        kba.train_vocabulary(tmp_path / "a.jsonl")


def test_pieces_that_could_not_be_used_are_left_out():
    half = "".join(chr(code) for code in range(0x0E01, 0x0E2F))  # 46 Thai letters of three bytes
    tokens = kba.train_vocabulary(texts=[f"{half}{half} {'film' * 26}"] * 5, size=2000)
    assert {half, f"##{half}"} <= set(tokens)
    assert half * 2 not in tokens
    assert "film" not in tokens  # it is only in a word that is too long
    kba.BertTokenizer(tokens)


def test_half_a_character_is_left_out():
    expected = kba.train_vocabulary(texts=["the film"] * 3)
    assert kba.train_vocabulary(texts=["the \ud83dfilm"] * 3) == expected


def test_the_alphabet_covers_the_text():
    """At least 1000 characters, and more where 99.95 % of the text needs them."""
    many = [chr(0x4E00 + i) for i in range(3000)]
    rare = [chr(0x3400 + i) for i in range(2)]
    tokens = kba.train_vocabulary(texts=["".join(many)] * 2 + ["".join(rare)], size=9000)
    assert set(many) <= set(tokens)
    assert not set(rare) & set(tokens)
    tokens = kba.train_vocabulary(texts=["a" * 7 * 10**6 + "".join(many)], size=9000)
    assert sum(len(token) == 1 for token in tokens) == 1000
