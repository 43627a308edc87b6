import json
import random

import numpy as np
import pytest
from conftest import checkpoint_with, data_file, not_served, run_python, served, write_trainable

import keras_bert_app as kba
from keras_bert_app.data import alignment, conll, features
from keras_bert_app.preprocessing.words import split_words
from keras_bert_app.signatures.tagging import tagging
from keras_bert_app.task_model import TaskModel
from keras_bert_app.tasks.token_classification import TokenClassification

TEXTS = [
    "the great film of Anna's cast, in the U.S. — a plot!",
    "na\u00efve cafe\u0301 \u4e2d\u6587\u5b57 films \U0001f600\U0001f468\u200d\U0001f469 don\u2019t",
    "film",
    "films " * 40,
    "\u200b film \u0939\u093f\u0928\u094d\u0926\u0940 bad\u00a0film\u2028dull",
    "!",
]


def sentences(number):
    """Sentences of which some words are entities: `cast acting` a group, `plot` a thing."""
    chance, rows = random.Random(7), []
    for _ in range(number):
        words, tags = [], []
        for _ in range(chance.randint(1, 5)):
            part, its = chance.choice([
                (["cast", "acting"], ["B-group", "I-group"]), (["plot"], ["B-thing"]),
                (["the", "films"], ["O", "O"]), (["was"], ["O"]), (["great", "!"], ["O", "O"]),
            ])  # fmt: skip
            words, tags = words + part, tags + its
        rows.append((words, tags))
    return rows


def finetune(folder, rows, task="token-classification", **options):
    options = {"epochs": 6, "learning_rate": 1e-2, "sequence_length": 24, "batch_size": 16, **options}
    return kba.finetune(
        task, rows, model=write_trainable(folder / "pretrained"), output=folder / "run", **options
    )


SERVED = """
import json, sys
import numpy as np
import tensorflow as tf, tensorflow_text

serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
found = serve(text=tf.constant(json.loads(sys.argv[2])))
decode = np.vectorize(bytes.decode, otypes="O")
print(json.dumps({
    name: (decode(t.numpy()) if t.dtype == tf.string else t.numpy()).tolist() for name, t in found.items()
}))
"""


def from_serving(found):
    """The answers of a served model in the form of those of a `TaskModel`."""
    rows = []
    for row, count in enumerate(found["count"]):
        entities = []
        for index in range(int(count)):
            entity = {name: found[name][row][index] for name in ("text", "label")}
            entity |= {name: int(found[name][row][index]) for name in ("start", "end")}
            entities.append({**entity, "score": pytest.approx(float(found["score"][row][index]), abs=1e-5)})
        assert not any(found["text"][row][int(count) :])
        rows.append(entities)
    return rows


def test_from_data_to_a_fresh_process(tmp_path):
    model = finetune(tmp_path, sentences(300), epochs=4, validation=sentences(40))
    report = model.evaluate(sentences(100))
    assert report["f1"] > 0.95
    assert report["words"] == sum(len(words) for words, _ in sentences(100))
    assert model.labels == ["O", "B-group", "I-group", "B-thing", "I-thing"]
    text = "The cast acting was great, the PLOT too."
    (answer,) = model(text)
    assert [(row["text"], row["label"]) for row in answer["entities"]] == [
        ("cast acting", "group"), ("PLOT", "thing"),
    ]  # fmt: skip
    assert all(text[row["start"] : row["end"]] == row["text"] for row in answer["entities"])
    (answer,) = model([["the", "cast", "acting"]])
    assert [(row["start"], row["end"], row["text"]) for row in answer["entities"]] == [(4, 15, "cast acting")]
    loaded = kba.load(tmp_path / "run")
    assert loaded.task == model.task
    assert json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]["warmup"] == 0
    texts = [text, *TEXTS]
    assert loaded(texts) == model(texts)
    path = kba.export(loaded, tmp_path / "exported")
    assert not_served(path) == []
    done = run_python(SERVED, path, json.dumps(texts))
    assert done.returncode == 0, done.stderr
    assert from_serving(json.loads(done.stdout)) == [row["entities"] for row in model(texts)]
    shown = model.task.show(report)
    assert "entities: precision" in shown
    assert "group" in shown


def test_parts_of_speech(tmp_path):
    def tag(word):
        return {"the": "DET", "was": "VERB", "great": "ADJ", "!": "PUNCT"}.get(word, "NOUN")

    rows = [(words, [tag(word) for word in words]) for words, _ in sentences(200)]
    model = finetune(tmp_path, rows, epochs=4)
    report = model.evaluate(rows[:50])
    assert report["accuracy"] > 0.95
    assert "accuracy" in model.task.show(report)
    (answer,) = model("the plot")
    assert [(row["text"], row["label"]) for row in answer["words"]] == [("the", "DET"), ("plot", "NOUN")]
    found = served(kba.export(model, tmp_path / "exported"), text=TEXTS)
    assert from_serving(found) == [row["words"] for row in model(TEXTS)]


LETTERS = (
    "ab \u00e9e\u0301\u4e2d\u6587\U0001f600\U0001f468\u200d.'-@#\u00a0\u0939\u093f\u1100\u1161\u0130\u00df"
)


@pytest.mark.parametrize("is_entities", [True, False])
def test_random_weights_and_texts(pretrained, is_entities):
    """Entities are slices of their text, and the graph has the same as Python."""
    chance = random.Random(3)
    preprocessor, encoder = kba.from_pretrained(pretrained, 12)
    labels = ["O", "B-a", "I-a", "B-b", "I-b"]
    task = TokenClassification(labels, is_entities, stride=5)
    model = task.build(encoder, 0.0)
    kernel = model.get_layer("token_classifier").kernel
    kernel.assign(3 * np.random.default_rng(2).normal(size=kernel.shape))
    asked = TaskModel(task, preprocessor, model)
    serve, _ = tagging(model, preprocessor, labels, is_entities, 5)["serving_default"]
    texts = TEXTS + ["x" + "".join(chance.choices(LETTERS, k=chance.randint(0, 60))) for _ in range(300)]
    answers = [row["entities" if is_entities else "words"] for row in asked(texts)]
    for text, found in zip(texts, answers, strict=True):
        for row in found:
            assert 0 <= row["start"] < row["end"] <= len(text)
            assert text[row["start"] : row["end"]] == row["text"]
        assert [row["start"] for row in found] == sorted(row["start"] for row in found)
    assert sum(map(len, answers)) > 300
    found = {
        name: np.vectorize(bytes.decode, otypes="O")(t) if t.dtype == object else t
        for name, t in ((name, tensor.numpy()) for name, tensor in serve(texts).items())
    }
    assert from_serving(found) == answers
    empty = serve(np.array([], object))
    assert {name: tensor.shape.as_list() for name, tensor in empty.items()} == {
        "count": [0], **{name: [0, 0] for name in ("text", "label", "score", "start", "end")},
    }  # fmt: skip


@pytest.mark.parametrize("stride", [1, 3, 7, 99])
def test_first_pieces(pretrained, stride):
    """Every word has its first piece, once, in the window that shows the most around it."""
    preprocessor, _ = kba.from_pretrained(pretrained, 9)
    rows = [["films", "the", "bcd", "loved", "\u0001", "a"] * 5, ["bcdefgh" * 3, "film"], ["the"]]
    found = features.encode_windows(preprocessor, rows, stride)
    first = alignment.first_pieces(found)
    words = list(zip(first["example"].tolist(), first["word"].tolist(), strict=True))
    assert words == [(e, w) for e, row in enumerate(rows) for w in range(len(row)) if row[w] != "\u0001"]
    whole = features.encode_windows(preprocessor.replace(sequence_length=99), rows, stride=99)
    for example, word, item, piece in zip(*first.values(), strict=True):
        row = whole.places["words"][example]
        begin = int(np.flatnonzero(row == word)[0])
        assert found.examples[item] == example
        assert found.rows["input_word_ids"][item][piece] == whole.rows["input_word_ids"][example][begin]
        assert found.places["starts"][item][piece] == 0
        others = [
            min(p, len(w) - 1 - p)
            for i, w in enumerate(found.places["words"]) if found.examples[i] == example
            for p in np.flatnonzero((w == word) & (found.places["starts"][i] == 0)).tolist()
        ]  # fmt: skip
        assert min(piece, len(found.places["words"][item]) - 1 - piece) == max(others)


def test_targets(pretrained):
    preprocessor, _ = kba.from_pretrained(pretrained, 9)
    examples = [(["films", "was", "loved"], ["B-a", "I-a", "O"]), (["bcd"], ["O"])]
    task = TokenClassification().learn(examples)
    found = task.encode(preprocessor, [words for words, _ in examples])
    targets, weights = task.training_targets(found, examples)
    assert [row.tolist() for row in targets] == [[0, 1, 0, 2, 0, 0], [0, 0, 0]]
    assert [row.tolist() for row in weights] == [[0, 1, 0, 1, 1, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match="sentence 1, word 2 has the tag 'B-c', .* one of O, B-a, I-a"):
        task.training_targets(found, [(["a", "b"], ["O", "B-c"])])
    with pytest.raises(ValueError, match="class_weights='balanced': not for token-classification"):
        task.training_targets(found, examples, "balanced")
    assert (
        TokenClassification(["O", "I-x", "B-x"]).learn([(["a"], ["B-x"]), (["b"], ["O"])]).labels[1] == "I-x"
    )
    with pytest.raises(ValueError, match="'0' are no tags of entities, such as 'B-person', but others are"):
        task.learn([(["a", "b"], ["B-x", "0"])])
    plain = TokenClassification(is_entities=False).learn([(["a", "b"], ["B-x", "0"])])
    assert (plain.labels, plain.is_entities) == (["0", "B-x"], False)
    with pytest.raises(ValueError, match="stride=0: give a whole number"):
        TokenClassification(stride=0)
    with pytest.raises(ValueError, match="all tags are 'O'"):
        task.learn([(["a"], ["O"])])


def test_split_words():
    for text in TEXTS:
        found = {name: ragged[0].numpy().tolist() for name, ragged in split_words(text).items()}
        words = [word.decode() for word in found["words"]]
        assert [text[a:b] for a, b in zip(found["starts"], found["ends"], strict=True)] == words
        assert "".join(words) == "".join(c for c in text if not c.isspace())
    (words,) = split_words("(U.S. 3.5%) @anna's #tag www.x.org/a_b? A\u4e2d\u6587b \u4f60")["words"].to_list()
    assert [word.decode() for word in words] == [
        "(", "U.S", ".", "3.5", "%", ")", "@anna's", "#tag", "www.x.org/a_b", "?",
        "A", "\u4e2d", "\u6587", "b", "\u4f60",
    ]  # fmt: skip


def read(path, **columns):
    return TokenClassification().read(path, columns)


def test_read(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("-DOCSTART- -X- O\n\nAnna NNP I-PER\nLi NNP I-PER\nOslo NNP I-LOC\n \nhere RB O\n")
    assert read(path) == [
        (["Anna", "Li", "Oslo"], ["B-PER", "I-PER", "B-LOC"]), (["here"], ["O"]),
    ]  # fmt: skip
    assert read(path, label="2")[1] == (["here"], ["RB"])
    path.write_text("# text = x y\nx\t1\tNOUN\n# \tsign\tNOUN\n\t\n#tag\t2\tX\n")
    assert read(path) == [(["x", "# "], ["NOUN", "NOUN"]), (["#tag"], ["X"])]
    path.write_text("# O\nx O\n")
    assert read(path) == [(["#", "x"], ["O", "O"])]
    path = tmp_path / "a.conllu"
    lines = ["# text = Du vin", "1-2\tDu\t_\t_", "1\tDe\tde\tADP", "2\tle\tle\tDET", "3\tvin\tvin\tNOUN"]
    path.write_text("\n".join([*lines, "3.1\t_\t_\t_", ""]))
    assert read(path) == [(["De", "le", "vin"], ["ADP", "DET", "NOUN"])]
    path = tmp_path / "b.conll"
    path.write_text("the\nplot\n\nfilm\n")
    assert TokenClassification().read_inputs(path, {}) == [["the", "plot"], ["film"]]
    path = tmp_path / "a.jsonl"
    path.write_text('{"words": ["a", "b"], "tags": ["S-x", "O"]}\n')
    assert TokenClassification().read_inputs(path, {}) == [["a", "b"]]
    assert read(path) == [(["a", "b"], ["B-x", "O"])]
    assert read([(("a", "b"), ("X", "Y"))]) == [(["a", "b"], ["X", "Y"])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a O\nb\n", "a.conll, line 2: 'b' has 1 columns, not 2"),
        ("a O\nb O x\n", "a.conll, line 2: 'b O x' has 3 columns, line 1 has 2"),
        ("a\n", "a.conll, line 1: 'a' has 1 columns, not 2"),
        ("a\tO\n\tO\n", "a.conll, line 1, word 2: the word is ''"),
        ("a\tO\nb\t\n", "a.conll, line 1, word 2: the tag is ''"),
        ("\n \n", "a.conll is empty"),
    ],
)
def test_damaged_files(tmp_path, text, message):
    path = tmp_path / "a.conll"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(path)


def test_other_mistakes(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("a x O\n")
    with pytest.raises(ValueError, match="has 3 columns, not 5"):
        read(path, label="5")
    with pytest.raises(ValueError, match="the column 'tag' of a CoNLL file: give its number"):
        read(path, label="tag")
    with pytest.raises(ValueError, match="sentence 1 has 2 words and 1 tags"):
        read([(["a", "b"], ["O"])])
    with pytest.raises(ValueError, match="sentence 1: 'x' is no pair"):
        read(["x"])
    with pytest.raises(ValueError, match="sentence 2 has no words"):
        read([(["a"], ["O"]), ([], [])])
    with pytest.raises(ValueError, match="text 0, word 2: the word is ''"):
        TokenClassification().check([["a", ""]])
    with pytest.raises(ValueError, match="text 0, word 2: the text has half a character"):
        TokenClassification().check([["a", "An\ud83dna"]])
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read(tmp_path / "b.conll")
    with pytest.raises(ValueError, match="a.csv: the name must end in .conll"):
        read(tmp_path / "a.csv")


def test_tags_that_break_their_scheme(tmp_path):
    path = tmp_path / "a.conll"
    path.write_text("a B-x\nb I-x\n\nc O\nd I-x\ne B-x\n")
    said = r"1 tags break the scheme IOB2, the first is I-x in the sentence of .*a.conll, line 4, word 2"
    with pytest.warns(UserWarning, match=said):
        assert read(path)[1] == (["c", "d", "e"], ["O", "B-x", "B-x"])


@pytest.mark.parametrize("tag", ["B_person", "B-place"])
def test_a_tag_that_the_model_does_not_know_is_named_with_its_file(pretrained, tmp_path, tag):
    path = tmp_path / "a.conll"
    path.write_text(f"c O\n\na O\nb {tag}\n")
    tagger = kba.token_classifier(kba.from_pretrained(pretrained)[1], 3)
    task = TokenClassification(["O", "B-person", "I-person"], True)
    model = TaskModel(task, kba.from_pretrained(pretrained)[0], tagger)
    with pytest.raises(ValueError, match=rf"a\.conll, line 3, word 2 has the tag '{tag}', which the model"):
        model.evaluate(path)


def test_real_tweets():
    assert len(conll.read_tagged(data_file("wnut17/train.conll"))) == 3394
    task = TokenClassification().learn(read(data_file("wnut17/train.conll")))
    assert len(task.labels) == 13


@pytest.mark.parametrize("labels", [["O", "B-x", "I-x"], ["E-x", "O", "S-x", "B-x", "I-x"], ["NOUN", "VERB"]])
def test_a_model_of_somebody_else(pretrained, tmp_path, labels):
    preprocessor, encoder = kba.from_pretrained(pretrained)
    tagger = kba.token_classifier(encoder, len(labels))
    kba.save_checkpoint(tagger, tmp_path / "tagger", preprocessor=preprocessor, labels=labels)
    model = kba.load(tmp_path / "tagger")
    assert model.task == TokenClassification(labels, "O" in labels)
    answers = [next(iter(row.values())) for row in model(TEXTS)]
    serve, _ = model.task.serve(model.model, model.preprocessor)["serving_default"]
    found = {name: tensor.numpy() for name, tensor in serve(TEXTS).items()}
    found["text"], found["label"] = (
        np.vectorize(bytes.decode, otypes="O")(found[name]) for name in ("text", "label")
    )
    assert from_serving(found) == answers
    with pytest.raises(ValueError, match="x has no names of labels"):
        TokenClassification.of_checkpoint(checkpoint_with())


@pytest.mark.filterwarnings("ignore:the model gives all")
def test_command_line(keras_bert, tmp_path):
    write_trainable(tmp_path / "bert")
    lines = ["\n".join(f"{w} {t}" for w, t in zip(words, tags, strict=True)) for words, tags in sentences(60)]
    (tmp_path / "train.conll").write_text("\n\n".join(lines))
    code, out, err = keras_bert(
        "finetune", "token-classification", "--train", "train.conll", "--model", "bert", "--output", "run",
        "--learning-rate", 1e-2, "--epochs", 2,
    )  # fmt: skip
    assert (code, out) == (0, "run\n"), err
    code, out, err = keras_bert("evaluate", "run", "--data", "train.conll", "--json")
    assert json.loads(out)["words"] == sum(len(words) for words, _ in sentences(60)), err
    (tmp_path / "a.txt").write_text("the plot was great\nthe cast acting\n")
    code, out, err = keras_bert("predict", "run", "--file", "a.txt")
    assert [json.loads(line)["text"] for line in out.splitlines()] == [
        "the plot was great",
        "the cast acting",
    ], err
    assert keras_bert("predict", "run", "the plot was great", "the cast acting")[1] == out
    code, out, err = keras_bert("predict", "run", "--file", "train.conll")
    assert [json.loads(line)["text"] for line in out.splitlines()] == [words for words, _ in sentences(60)], (
        err
    )
