import random

import pytest
from conftest import data_file

import keras_bert_app as kba
from keras_bert_app.data import conll
from keras_bert_app.metrics import entities

TAGS = ["O", "B-a", "I-a", "B-b", "I-b"]


def ends(before, letter, type_before, kind):
    """Whether an entity ends, in the words of conlleval: by the letters, or since the type is another."""
    pairs = {("B", "B"), ("B", "S"), ("B", "O"), ("I", "B"), ("I", "S"), ("I", "O")}
    return before in "ES" or (before, letter) in pairs or (before != "O" and type_before != kind)


def starts(before, letter, type_before, kind):
    """Whether an entity begins."""
    pairs = {(b, letter) for b in "ESO" for letter in "EI"}
    return letter in "BS" or (before, letter) in pairs or (letter != "O" and type_before != kind)


def conlleval(sentences):
    """The counts and shares of conlleval.pl: its loop over lines, with a boundary after each sentence."""
    right = given = true = 0
    in_right = False
    last = [("O", ""), ("O", "")]
    for wanted, found in sentences:
        for pair in [*zip(wanted, found, strict=True), ("O", "O")]:
            now = [(tag[0], tag[2:]) for tag in pair]
            if in_right:
                end = [ends(b[0], n[0], b[1], n[1]) for b, n in zip(last, now, strict=True)]
                if all(end) and last[0][1] == last[1][1]:
                    in_right, right = False, right + 1
                elif end[0] != end[1] or now[0][1] != now[1][1]:
                    in_right = False
            begin = [starts(b[0], n[0], b[1], n[1]) for b, n in zip(last, now, strict=True)]
            if all(begin) and now[0][1] == now[1][1]:
                in_right = True
            true, given = true + begin[0], given + begin[1]
            last = now
    precision, recall = right / given if given else 0, right / true if true else 0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
    return {"precision": precision, "recall": recall, "f1": f1}


@pytest.mark.parametrize("tags", [TAGS, [*TAGS, "E-a", "E-b", "S-a", "S-b"]])
def test_the_figures_of_conlleval(tags):
    chance = random.Random(4)
    for _ in range(300):
        sentences = []
        for _ in range(chance.randint(1, 7)):
            wanted = chance.choices(tags, k=chance.randint(1, 11))
            found = [chance.choice(tags) if chance.random() < 0.3 else tag for tag in wanted]
            sentences.append((wanted, found))
        report = entities.scores(*map(list, zip(*sentences, strict=True)))
        for name, value in conlleval(sentences).items():
            assert report[name] == pytest.approx(value, abs=1e-9), sentences


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("B-a I-a O B-a", [(0, 2, "a"), (3, 4, "a")]),
        ("I-a I-a B-a", [(0, 2, "a"), (2, 3, "a")]),  # IOB1
        ("I-a I-b", [(0, 1, "a"), (1, 2, "b")]),
        ("B-a I-b", [(0, 1, "a"), (1, 2, "b")]),
        ("S-a S-a B-a I-a E-a O", [(0, 1, "a"), (1, 2, "a"), (2, 5, "a")]),
        ("U-a B-a L-a I-a", [(0, 1, "a"), (1, 3, "a"), (3, 4, "a")]),
        ("O I-x-y", [(1, 2, "x-y")]),
        ("O", []),
    ],
)
def test_find_entities(tags, found):
    assert entities.find_entities(tags.split()) == found
    assert entities.find_entities(entities.to_iob2(tags.split())) == found


@pytest.mark.parametrize(
    ("sentences", "scheme", "broken"),
    [
        (["B-a I-a O", "B-b B-b"], "IOB2", []),
        (["I-a I-a B-a O", "I-b"], "IOB1", []),
        (["I-a I-b O I-a"], "IOB1", []),  # IO
        (["B-a I-a", "B-a O I-a", "B-b"], "IOB2", [(1, 2)]),
        (["I-a I-a O I-b", "O B-a"], "IOB1", [(1, 1)]),
        (["S-a B-a I-a E-a", "O"], "BIOES", []),
        (["S-a B-a I-a O", "I-b E-b"], "BIOES", [(0, 2), (1, 0)]),
        (["U-a B-a L-a"], "BIOES", []),
        (["NOUN VERB O"], None, []),
        (["O O"], "IOB2", []),
    ],
)
def test_scheme_of(sentences, scheme, broken):
    assert entities.scheme_of([tags.split() for tags in sentences]) == (scheme, broken)


def test_nothing_is_found_or_there():
    report = entities.scores([["O", "B-a"]], [["O", "O"]])
    assert (report["precision"], report["recall"], report["f1"]) == (0.0, 0.0, 0.0)
    assert report["per_type"] == {"a": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}}
    assert entities.scores([["O"]], [["B-a"]])["per_type"]["a"]["support"] == 0


@pytest.mark.parametrize(
    ("letters", "tags"),
    [
        ("BI", "B-a I-a I-a O B-a B-b I-b"),
        ("BIES", "B-a I-a E-a O S-a B-b E-b"),
        ("BILU", "B-a I-a L-a O U-a B-b L-b"),
        ("I", "I-a I-a I-a O I-a I-b I-b"),
    ],
)
def test_in_scheme_of(letters, tags):
    labels = ["O", *(f"{letter}-{kind}" for letter in letters for kind in "ab")]
    iob2 = ["B-a", "I-a", "I-a", "O", "B-a", "B-b", "I-b"]
    assert entities.in_scheme_of(labels, iob2) == tags.split()
    assert entities.to_iob2(tags.split()) == iob2


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_figures_of_conlleval_on_what_a_model_predicts(tmp_path):
    tweets = conll.read_tagged(data_file("wnut17/train.conll"))[:200]
    model = kba.finetune(
        "token-classification", tweets, output=tmp_path / "run", epochs=10, learning_rate=4e-4, batch_size=8
    )
    report, sentences = model.evaluate(tweets), []
    for (words, wanted), answer in zip(tweets, model([words for words, _ in tweets]), strict=True):
        found, begins = ["O"] * len(words), {}
        for place, word in enumerate(words):
            begins[sum(len(before) + 1 for before in words[:place])] = place, word
        for entity in answer["entities"]:
            inside = [place for at, (place, _) in begins.items() if entity["start"] <= at < entity["end"]]
            assert " ".join(words[inside[0] : inside[-1] + 1]) == entity["text"]
            found[inside[0]] = f"B-{entity['label']}"
            for place in inside[1:]:
                found[place] = f"I-{entity['label']}"
        sentences.append((wanted, found))
    expected = conlleval(sentences)
    assert 0.05 < expected["f1"] < 1  # there is something to be counted, right and wrong
    for name, value in expected.items():
        assert report[name] == pytest.approx(value, abs=1e-9)
