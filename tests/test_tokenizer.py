import collections
import gzip
import inspect
import json
import random
import sys
import unicodedata

import keras
import pytest
import tensorflow as tf
from conftest import VOCABULARY, data_file
from tokenizers import BertWordPieceTokenizer, normalizers, pre_tokenizers

import keras_bert_app as kba
from keras_bert_app.preprocessing import normalization

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = [
    *"abcdefghijklmnopqrstuvwxyzABCDÉéßñçøœıIіσςабвщאבגابतमकथไทยカタな한ᄒ日本語👍1234567890",
    *"\u0301\u0327\u093e\u0b3e\u1112\u1161\u11ab",
]
SMALL = [
    *VOCABULARY,
    *(f"{mark}{c}" for c in LETTERS for mark in ("", "##") if f"{mark}{c}" not in VOCABULARY),
]
SMALL = list(dict.fromkeys(SMALL))
VOCABULARIES = [
    ("bert-base-uncased", True),
    ("bert-base-cased", False),
    ("bert-base-multilingual-cased", False),
    ("bert-base-chinese", True),
]


@pytest.fixture(scope="module")
def tokenizer():
    return kba.BertTokenizer(VOCABULARY)


def pieces(tokenizer, text):
    return [tokenizer.id_to_token(i) for i in tokenizer([text]).to_list()[0]]


def write(path, tokens):
    path.write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8", newline="")
    return path


def peer(path, lowercase, special=False, **options):
    """Hugging Face's tokenizer; without `special`, a special token in a text is text like any other."""
    found = BertWordPieceTokenizer(str(path), lowercase=lowercase, **options)
    found._tokenizer.encode_special_tokens = not special
    return found


def differences(tokenizer, oracle, texts):
    """The texts whose ids, offsets or words are not those of Hugging Face's tokenizer."""
    different = []
    for start in range(0, len(texts), 4096):
        chunk = texts[start : start + 4096]
        found = {name: ragged.to_list() for name, ragged in tokenizer(chunk, return_offsets=True).items()}
        for row, encoded in enumerate(oracle.encode_batch(chunk, add_special_tokens=False)):
            spans = list(zip(found["starts"][row], found["ends"][row], strict=True))
            places = (encoded.ids, encoded.offsets, encoded.word_ids)
            if (found["ids"][row], spans, found["words"][row]) != places:
                different.append(chunk[row])
    return different


def random_texts(number, seed=3):
    """Texts of all that makes tokenizing hard, next to each other."""
    source = random.Random(seed)
    parts = [
        *LETTERS, "the", "films", "great", "loved", "  ", " ", "\t", "\n", "\u00a0", "\u3000", "\u2028",
        "\u0085", "\u200b", "\u200d", "\ufeff", "\u00ad", "\x00", "\x07", "\x7f", "\ufffd", "\ue000",
        "\U000f0000", "!", "?", ".", "...", "…", "½", "´", "—", "$", "^", "`", "。", "，", "豈", "\U00020000",
        "👨\u200d👩", "Å", "ﬁ", "ǆ", "İ", "ẞ", "a" * 99, "b" * 101, "é" * 60, "ए" * 101, "[MASK]", "[SEP",
        "##s", "e\u0301", "q\u0307\u0323",
    ]  # fmt: skip
    return ["".join(source.choices(parts, k=source.randrange(1, 30))) for _ in range(number)]


def test_word_pieces(tokenizer):
    assert pieces(tokenizer, "Great FILMS, bored!") == ["great", "film", "##s", ",", "[UNK]", "!"]
    assert pieces(tokenizer, "  the\tfilm\u00a0was\nfün ") == ["the", "film", "was", "fun"]
    assert pieces(tokenizer, "") == []


def test_cased():
    tokenizer = kba.BertTokenizer([*VOCABULARY, "Great", "fün"], lowercase=False)
    assert pieces(tokenizer, "Great great GREAT fün") == ["Great", "great", "[UNK]", "fün"]


@pytest.mark.parametrize(
    "options", [{"lowercase": True}, {"lowercase": False}, {"lowercase": True, "strip_accents": False},
                {"lowercase": False, "strip_accents": True}],
)  # fmt: skip
def test_ids_offsets_and_words_are_those_of_hugging_face(tmp_path, options):
    tokenizer, oracle = kba.BertTokenizer(SMALL, **options), peer(write(tmp_path / "v.txt", SMALL), **options)
    assert differences(tokenizer, oracle, random_texts(3000)) == []


def test_special_tokens_in_a_text(tmp_path):
    tokenizer = kba.BertTokenizer(SMALL, special_tokens=SPECIAL)
    oracle = peer(write(tmp_path / "v.txt", SMALL), True, special=True)
    texts = [
        "the [MASK] film",
        "un[MASK]able [mask] [MASK][SEP]",
        "[UNK] ᚠ [UNK]",
        "[MASK",
        "\x01a\x05 [PAD]\x00[CLS]",
        "\ufade豈",
    ]
    assert differences(tokenizer, oracle, texts) == []
    found = tokenizer("é [UNK] ᚠ x[MASK]!", return_offsets=True)
    spans = zip(found["starts"].to_list()[0], found["ends"].to_list()[0], strict=True)
    assert list(spans) == [(0, 1), (2, 7), (8, 9), (10, 11), (11, 17), (17, 18)]
    # Only the tokens that are named; by default a "[MASK]" is a word in brackets.
    tokenizer = kba.BertTokenizer([*VOCABULARY, "[", "]", "[E]"], special_tokens=["[E]"])
    assert pieces(tokenizer, "[a] [E]a [MASK]") == ["[", "a", "]", "[E]", "a", "[", "[UNK]", "]"]


def test_word_limit(tmp_path):
    texts = [
        "aaaa",
        "aaaaa b",
        "éééé",
        "ééééé",
        "a" * 4 + "," + "b" * 4,
        "日本語日本語",
        "क" * 4,
        "क" * 5,
        "aa\u200baa",
        "aa\u0301" * 3,
    ]
    tokenizer = kba.BertTokenizer(SMALL, max_input_chars_per_word=4)
    assert [len(row) for row in tokenizer(texts).to_list()[:2]] == [4, 2]
    path = write(tmp_path / "v.txt", SMALL)
    oracle = peer(path, True)
    oracle._tokenizer.model.max_input_chars_per_word = 4
    assert differences(tokenizer, oracle, texts) == []


def test_offsets_in_a_batch_are_those_alone(tokenizer):
    texts = ["the film", "fün\u200b films", "", "日本 a", "\x00the", "plot!"]
    together = tokenizer(texts, return_offsets=True)
    for row, text in enumerate(texts):
        for name, ragged in tokenizer(text, return_offsets=True).items():
            assert ragged.to_list()[0] == together[name].to_list()[row], (text, name)


def test_invalid_bytes_count_as_one_character_that_is_left_out(tokenizer):
    assert pieces(tokenizer, b"the \xff\xfe fi\xfflm \xe9") == ["the", "film"]
    assert pieces(tokenizer, "the \ud800 film") == ["the", "film"]
    found = tokenizer([b"\xff the", "\ud800 the"], return_offsets=True)
    assert found["starts"].to_list() == [[2], [2]]


def test_words_that_are_split_already(tokenizer):
    words = tf.ragged.constant([["the", "films!"], [], ["dull"]])
    assert tokenizer(words).to_list() == [[tokenizer(w).to_list()[0] for w in row] for row in words.to_list()]
    assert tokenizer(words, return_offsets=True)["ends"].to_list()[0] == [[3], [4, 5, 6]]
    assert tokenizer(words.with_row_splits_dtype(tf.int32)).to_list() == tokenizer(words).to_list()
    with pytest.raises(TypeError, match="tensor of int32"):
        tokenizer(tf.ragged.constant([[1]]))


def test_a_token_with_a_space_is_never_found(tmp_path):
    """The kernel would find it across words."""
    tokens = [*SMALL, "the film", "films a"]
    oracle = peer(write(tmp_path / "v.txt", tokens), True)
    tokenizer = kba.BertTokenizer(tokens)
    assert differences(tokenizer, oracle, ["the film", "the films a", "the filmy films  a"]) == []
    assert tokenizer.id_to_token(len(SMALL)) == "the film"


def test_tokens_and_ids(tokenizer):
    assert tokenizer.token_to_id("film") == VOCABULARY.index("film")
    assert tokenizer.id_to_token(2) == "[CLS]"
    assert tokenizer.vocabulary_size == len(VOCABULARY)
    with pytest.raises(KeyError, match="'movie' is not in the vocabulary"):
        tokenizer.token_to_id("movie")
    for index in (-1, len(VOCABULARY)):
        with pytest.raises(IndexError, match=f"no token {index}: ids go from 0 to {len(VOCABULARY) - 1}"):
            tokenizer.id_to_token(index)


def test_symbolic_inputs_that_cannot_be():
    tokenizer = kba.BertTokenizer(VOCABULARY)
    for given in (keras.Input((1,), dtype="string"), keras.Input((), dtype="int32")):
        with pytest.raises(ValueError, match=r"give keras.Input\(shape=\(\), dtype='string'\)"):
            tokenizer(given)


def test_detokenize(tmp_path):
    tokenizer = kba.BertTokenizer([*VOCABULARY, "wasn", "t", "[E]"])
    text = "the films wasn't great, i loved it!"
    ids = tokenizer([text, "a [UNK]", ""])
    assert tokenizer.detokenize(ids).numpy().tolist() == [text.encode(), b"a [UNK] [UNK] [UNK]", b""]
    packed = kba.BertPreprocessor(tokenizer, 20)([text])["input_word_ids"]
    assert tokenizer.detokenize(packed).numpy().tolist() == [text.encode()]
    assert tokenizer.detokenize(packed.numpy().tolist()).numpy().tolist() == [text.encode()]
    for ids in ([5, 6], [["a"]]):
        with pytest.raises(ValueError, match="give a list of lists of ids"):
            tokenizer.detokenize(ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_input_chars_per_word": 0}, "max_input_chars_per_word=0"),
        ({"max_input_chars_per_word": 1000}, "max_input_chars_per_word=1000"),
        ({"special_tokens": "[MASK]"}, "give a tuple of tokens"),
        ({"special_tokens": ["[E]"]}, r"lacks the special tokens \[E\]"),
        ({"special_tokens": ["a"] * 29}, "has 29 tokens"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        kba.BertTokenizer(VOCABULARY, **options)


def test_every_option_survives_files(tmp_path):
    options = {
        "lowercase": False,
        "strip_accents": True,
        "max_input_chars_per_word": 7,
        "special_tokens": ["[MASK]"],
    }
    tokenizer = kba.BertTokenizer([*SMALL, "\u2028", "Great"], **options)
    names = [
        p for p in inspect.signature(kba.BertTokenizer.__init__).parameters if p not in ("self", "kwargs")
    ]
    assert set(names) == {"vocabulary", *options}
    assert {name: tokenizer.get_config()[name] for name in options} == options
    text = keras.Input((), dtype="string")
    model = keras.Model(text, tokenizer(text, return_offsets=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    layer = loaded.layers[-1]
    assert {name: layer.get_config()[name] for name in options} == options
    assert layer.vocabulary == tokenizer.vocabulary
    texts = ["Great fün\u200b [MASK]!", "aaaaaaaa É 日本"]
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved").serve(tf.constant(texts))
    for name, ragged in tokenizer(texts, return_offsets=True).items():
        assert ragged.to_list() == loaded(tf.constant(texts))[name].to_list() == served[name].to_list()


def test_the_options_change_the_result():
    text = "Été [MASK] aaaaaaaa"
    results = [
        kba.BertTokenizer(SMALL, **options)(text).to_list()
        for options in ({}, {"lowercase": False}, {"strip_accents": False}, {"max_input_chars_per_word": 7},
                        {"special_tokens": ["[MASK]"]})
    ]  # fmt: skip
    assert len({str(result) for result in results}) == len(results)


def test_bad_vocabularies(tmp_path):
    path = tmp_path / "vocab.txt"
    with pytest.raises(FileNotFoundError, match="no vocabulary"):
        kba.BertTokenizer(path)
    with pytest.raises(ValueError, match=r"lacks \[CLS\], \[SEP\]"):
        kba.BertTokenizer(["[PAD]", "[UNK]", "[MASK]"])
    with pytest.raises(ValueError, match=r"holds 'film' twice, in lines 8 and 55"):
        kba.BertTokenizer([*VOCABULARY, "film"])
    path.write_bytes("é".encode("latin1"))
    with pytest.raises(ValueError, match="is not UTF-8"):
        kba.BertTokenizer(path)
    write(path, [*VOCABULARY[:7], "", *VOCABULARY[7:]])
    with pytest.raises(ValueError, match="line 8 is blank"):
        kba.BertTokenizer(path)
    write(path, [*VOCABULARY, "more\r"])
    with pytest.raises(ValueError, match="line 55 ends in a carriage return"):
        kba.BertTokenizer(path)
    with pytest.raises(ValueError, match="has no vocabulary"):
        kba.BertTokenizer()(["a"])
    with pytest.raises(ValueError, match="has no vocabulary"):
        kba.BertTokenizer.from_config(kba.BertTokenizer(VOCABULARY).get_config()).save_assets(tmp_path)
    for token, message in [(" ", "line 55 is blank"), ("x\ny", r"line 55 is 'x\\ny': a token must be on one"),
                           (3, r"line 55 is 3 \(int\)"), ("é" * 129, "line 55 has 258 bytes")]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            kba.BertTokenizer([*VOCABULARY, token])


@pytest.mark.parametrize(
    "change", [str, lambda t: t.replace("\n", "\r\n"), lambda t: "\ufeff" + t, lambda t: t.rstrip("\n")]
)
def test_vocabularies_as_programs_write_them(tmp_path, change):
    text = "".join(f"{token}\n" for token in [*VOCABULARY, "\u2028"])
    (tmp_path / "vocab.txt").write_text(change(text), encoding="utf-8", newline="")
    assert kba.BertTokenizer(tmp_path / "vocab.txt").vocabulary == (*VOCABULARY, "\u2028")


def sweep(tokenizer, oracle):
    """The characters with other ids than Hugging Face's: alone, between letters, after a space."""
    characters = [
        chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs")
    ]
    different = set()
    for text in ("{}", "a{}b", "a {}"):
        texts = [text.format(c) for c in characters]
        found = tokenizer(texts).to_list()
        expected = oracle.encode_batch(texts, add_special_tokens=False)
        different |= {c for c, a, b in zip(characters, found, expected, strict=True) if a != b.ids}
    return different


CHANGED = {
    "\u166d": "punctuation until Unicode 12, now a symbol",
    "\u1885": "a letter until Unicode 9, now a nonspacing mark",
    "\u1886": "a letter until Unicode 9, now a nonspacing mark",
    "\u1734": "nonspacing until Unicode 14, now spacing",
    "\U000111c9": "punctuation until Unicode 11, now a nonspacing mark",
}


def check_sweep(different):
    """Every difference is one of a character that one library's Unicode tables do not know yet."""
    normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    classes = collections.Counter()
    for c in different - set(CHANGED):
        assert unicodedata.ucd_3_2_0.category(c) == "Cn", f"U+{ord(c):04X} is an old character"
        category = unicodedata.category(c)
        kept = normalizer.normalize_str(c) != ""
        whole = len(splitter.pre_tokenize_str(f"a{c}b")) == 1
        explained = (category in ("Mn", "Cf") and kept) or (category.startswith("P") and whole)
        assert explained, f"U+{ord(c):04X} {category}"
        classes[category] += 1
    assert set(classes) <= {"Mn", "Cf", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"}
    assert len(different) < 1000


@pytest.mark.parametrize("lowercase", [True, False])
def test_every_character(tmp_path, lowercase):
    oracle = peer(write(tmp_path / "v.txt", SMALL), lowercase)
    check_sweep(sweep(kba.BertTokenizer(SMALL, lowercase), oracle))


def test_a_vocabulary_with_a_rare_ideograph_can_use_it():
    letter = normalization.LETTERS[7]
    assert pieces(kba.BertTokenizer([*VOCABULARY, letter]), f"a{letter}b") == ["a", letter, "b"]


@pytest.mark.parametrize(("name", "lowercase"), VOCABULARIES)
def test_every_character_of_real_vocabularies(name, lowercase):
    path = data_file(f"vocab/{name}/vocab.txt")
    check_sweep(sweep(kba.BertTokenizer(path, lowercase), peer(path, lowercase)))


def test_reference_cases():
    """Tokens, ids and offsets of hand-picked texts."""
    tokenizers = {}
    for case in json.loads(data_file("tokenizer/cases.json").read_text(encoding="utf-8")):
        options = (case["vocab"], case["lowercase"])
        for special in ((), SPECIAL):
            if (options, special) not in tokenizers:
                path = data_file(f"vocab/{case['vocab']}/vocab.txt")
                tokenizers[options, special] = kba.BertTokenizer(
                    path, case["lowercase"], special_tokens=special
                )
            tokenizer = tokenizers[options, special]
            found = {n: r.to_list()[0] for n, r in tokenizer([case["text"]], return_offsets=True).items()}
            tokens = [tokenizer.id_to_token(i) for i in found["ids"]]
            if not special and any(token in case["text"] for token in SPECIAL):
                assert tokens == case["original_bert_tokens"]
                continue
            assert (tokens, found["ids"]) == (case["expected_tokens"], case["expected_ids"]), case
            spans = [list(span) for span in zip(found["starts"], found["ends"], strict=True)]
            assert spans == case["expected_offsets"], case


def test_real_questions():
    """Ids of Google's tokenizer for 8,000 questions."""
    tokenizer = kba.BertTokenizer(data_file("vocab/bert-base-uncased/vocab.txt"))
    with gzip.open(data_file("tokenizer/questions.jsonl.gz"), "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == 8000
    found = tokenizer([row["text"] for row in rows]).to_list()
    assert [row["text"] for row, ids in zip(rows, found, strict=True) if row["ids"] != ids] == []


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["bert-base-uncased", "bert-base-cased"])
def test_real_reviews(name, step):
    """Ids, offsets and words of 25,000 reviews, and of strings that are meant to break programs."""
    path = data_file(f"vocab/{name}/vocab.txt")
    texts = [text for text, _ in kba.read_labelled(data_file("imdb/test.jsonl.gz"))][::step]
    texts += json.loads(data_file("tokenizer/naughty_strings.json").read_text(encoding="utf-8"))
    lowercase = name.endswith("uncased")
    assert differences(kba.BertTokenizer(path, lowercase), peer(path, lowercase), texts) == []
