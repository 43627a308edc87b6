"""The metrics of SQuAD beside its own scripts, rewritten here as they are, and its files."""

import collections
import gzip
import json
import random
import re
import string

import pytest
from conftest import data_file

import keras_bert_app as kba
from keras_bert_app.data import squad as files
from keras_bert_app.metrics import squad


def normalize_answer(s):
    s = "".join(ch for ch in s.lower() if ch not in set(string.punctuation))
    return " ".join(re.compile(r"\b(a|an|the)\b", re.UNICODE).sub(" ", s).split())


def overlap(gold, pred):
    gold, pred = normalize_answer(gold).split(), normalize_answer(pred).split()
    same = sum((collections.Counter(gold) & collections.Counter(pred)).values())
    return gold, pred, same


def f1_of_1(pred, gold):
    gold, pred, same = overlap(gold, pred)
    if same == 0:
        return 0
    precision, recall = 1.0 * same / len(pred), 1.0 * same / len(gold)
    return 2 * precision * recall / (precision + recall)


def f1_of_2(gold, pred):
    gold_toks, pred_toks, _ = overlap(gold, pred)
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    return f1_of_1(pred, gold)


def script_1(wanted, answers):
    total = len(wanted)
    exact = sum(
        max(normalize_answer(p) == normalize_answer(g) for g in w)
        for w, p in zip(wanted, answers, strict=True)
    )
    f1 = sum(max(f1_of_1(p, g) for g in w) for w, p in zip(wanted, answers, strict=True))
    return {"exact_match": 100.0 * exact / total, "f1": 100.0 * f1 / total}


def script_2(wanted, answers, odds, threshold):
    has_answer = {i: bool(w) for i, w in enumerate(wanted)}
    raw = {"exact_match": {}, "f1": {}}
    for i, (w, p) in enumerate(zip(wanted, answers, strict=True)):
        gold = [text for text in w if normalize_answer(text)] or [""]
        raw["exact_match"][i] = max(int(normalize_answer(g) == normalize_answer(p)) for g in gold)
        raw["f1"][i] = max(f1_of_2(g, p) for g in gold)
    found = {}
    for name, scores in raw.items():
        applied = {i: float(not has_answer[i]) if odds[i] > threshold else s for i, s in scores.items()}
        found[name] = 100.0 * sum(applied.values()) / len(applied)
        for part, has in (("has_answer", True), ("no_answer", False)):
            chosen = [s for i, s in applied.items() if has_answer[i] == has]
            if chosen:
                found[part, name] = 100.0 * sum(chosen) / len(chosen)
        cur = best = sum(1 for i in has_answer if not has_answer[i])
        where = 0.0
        for i in sorted(has_answer, key=lambda i: odds[i]):
            diff = scores[i] if has_answer[i] else (-1 if answers[i] else 0)
            cur += diff
            if cur > best:
                best, where = cur, odds[i]
        found[f"best_{name}"], found[f"best_{name}_threshold"] = 100.0 * best / len(scores), where
    return found


WORDS = [
    "Paris",
    "the",
    "a",
    "Eiffel",
    "tower.",
    "tower",
    "An",
    "1,000",
    "1000",
    "--",
    "New-York",
    "\u00c9cole",
]


def random_questions(seed):
    chance = random.Random(seed)

    def text():
        return " ".join(chance.choices(WORDS, k=chance.randint(1, 4)))

    number = chance.randint(1, 13)
    wanted = [[text() for _ in range(chance.randint(0, 3))] for _ in range(number)]
    answers = [chance.choice([*texts, text(), text(), ""]) for texts in wanted]
    return wanted, answers, [round(chance.gauss(0, 3), 1) for _ in range(number)]


@pytest.mark.parametrize("seed", range(200))
def test_the_figures_of_the_scripts(seed):
    wanted, answers, odds = random_questions(seed)
    found = squad.scores(wanted, answers, odds, 0.5)
    for name, value in script_2(wanted, answers, odds, 0.5).items():
        ours = found[name[0]][name[1]] if isinstance(name, tuple) else found[name]
        assert ours == pytest.approx(value, abs=1e-9), name
    some = [(texts, answer) for texts, answer in zip(wanted, answers, strict=True) if texts]
    if some:
        wanted, answers = map(list, zip(*some, strict=True))
        assert squad.scores(wanted, answers) == pytest.approx(script_1(wanted, answers), abs=1e-9)


@pytest.mark.parametrize(
    ("wanted", "answer", "exact", "f1"),
    [
        (["The Eiffel Tower"], "eiffel tower!", 1, 1.0),
        (["1,000"], "1000", 1, 1.0),
        (["New York"], "New-York", 0, 0.0),
        (["a"], "the", 1, 0.0),  # nothing is left of either
        (["in Paris", "Paris, France"], "Paris", 0, 2 / 3),
        (["Theatre"], "The atre", 0, 0.0),
    ],
)
def test_hard_cases(wanted, answer, exact, f1):
    assert (squad.exact_match(wanted, answer), squad.f1(wanted, answer)) == (exact, pytest.approx(f1))


def test_a_question_without_an_answer():
    found = squad.scores([[], [], ["x"]], ["y", "", "x"], odds=[1.0, 5.0, -1.0])
    assert found["exact_match"] == found["f1"] == 100.0
    assert found["no_answer"] == {"total": 2, "exact_match": 100.0, "f1": 100.0}
    none = squad.scores([["x"]], ["x"], odds=[1.0])
    assert none["no_answer"] == {"total": 0}
    assert (none["f1"], none["best_f1"], none["best_f1_threshold"]) == (0.0, 100.0, 1.0)


ARTICLE = {
    "version": "v2.0",
    "data": [{"title": "t", "paragraphs": [{"context": "Anna laughs.", "qas": [
        {"id": "q1", "question": "Who laughs?", "answers": [{"text": "Anna", "answer_start": 0}]},
        {"id": "q2", "question": "Who weeps?", "is_impossible": True, "answers": [],
         "plausible_answers": [{"text": "Anna", "answer_start": 0}]},
    ]}]}],
}  # fmt: skip
EXAMPLES = [
    (("Who laughs?", "Anna laughs."), {"id": "q1", "answers": [{"text": "Anna", "answer_start": 0}]}),
    (("Who weeps?", "Anna laughs."), {"id": "q2", "answers": []}),
]


def test_files(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ARTICLE))
    assert files.read_squad(path) == EXAMPLES
    with gzip.open(tmp_path / "a.json.gz", "wt") as file:
        json.dump(ARTICLE, file)
    assert files.read_squad(tmp_path / "a.json.gz") == EXAMPLES
    path = tmp_path / "a.jsonl"
    rows = [
        {"id": target["id"], "question": q, "context": c, "answers": target["answers"]}
        for (q, c), target in EXAMPLES
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert files.read_squad(path) == EXAMPLES
    lists = {"text": ["Anna"], "answer_start": [0]}
    assert (
        files.read_squad([(("Who laughs?", "Anna laughs."), {"id": "q1", "answers": lists})]) == EXAMPLES[:1]
    )
    assert files.read_squad([(given, {"answers": []}) for given, _ in EXAMPLES])[1][1]["id"] == "1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("context"), "a.json, question q1 has no context"),
        (lambda p: p.update(context=" "), "a.json, question q1, context: the text is empty"),
        (lambda p: p["qas"][0].pop("question"), "question q1, question: the text is None"),
        (lambda p: p["qas"][1].pop("answers"), "question q2 has the answers None"),
        (lambda p: p["qas"][0]["answers"][0].pop("answer_start"), "q1 .*answer_start is no place"),
        (lambda p: p["qas"][0]["answers"][0].update(text=""), "q1 has the answer .*: give its text"),
        (lambda p: p["qas"][1].update(id="q1"), "has two questions with the id 'q1'"),
        (lambda p: p.pop("qas"), "is no file of SQuAD .KeyError: 'qas'"),
        (lambda p: p["qas"].clear(), "a.json is empty"),
    ],
)
def test_damaged_files(tmp_path, change, message):
    article = json.loads(json.dumps(ARTICLE))
    change(article["data"][0]["paragraphs"][0])
    (tmp_path / "a.json").write_text(json.dumps(article))
    with pytest.raises(ValueError, match=message):
        files.read_squad(tmp_path / "a.json")


def test_other_mistakes(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="a.json is no file of SQuAD .JSONDecodeError"):
        files.read_squad(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"a.csv: the name must end in .json, .jsonl"):
        files.read_squad(tmp_path / "a.csv")
    row = {"question": "Who?", "context": "Anna", "answers": {"text": ["Anna"]}}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(ValueError, match="row 1 has the answers .*: give as many answer_start as text"):
        files.read_squad(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="question 1 has no context"):
        files.read_squad([("Who?", {"answers": []})])
    with pytest.raises(ValueError, match="question 1 is 'Who.'"):
        files.read_squad(["Who?"])


def test_real_files():
    for name, number, without in (
        ("v1.1_train", 7593, 0), ("v1.1_dev", 1562, 0), ("v2.0_train", 7721, 4100), ("v2.0_dev", 3381, 1845),
    ):  # fmt: skip
        examples = files.read_squad(data_file(f"squad/{name}_articles.json.gz"))
        assert len(examples) == number
        assert sum(not target["answers"] for _, target in examples) == without
        assert all(files.is_at_its_place(g[1], a) for g, t in examples for a in t["answers"])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_figures_of_the_scripts_on_what_a_model_predicts(tmp_path):
    train = files.read_squad(data_file("squad/v2.0_train_articles.json.gz"))[::8][:150]
    dev = files.read_squad(data_file("squad/v2.0_dev_articles.json.gz"))[::8][:80]
    model = kba.finetune(
        "question-answering",
        train,
        output=tmp_path / "run",
        epochs=1,
        learning_rate=5e-4,
        sequence_length=128,
    )
    unsure = sorted(answer["no_answer_odds"] for answer in model([given for given, _ in dev]))[len(dev) // 2]
    model = kba.load(tmp_path / "run", options={"threshold": unsure})  # some are answered, others not
    report = model.evaluate(dev, predictions=tmp_path / "answers.json")
    answers = json.loads((tmp_path / "answers.json").read_text())
    odds = json.loads((tmp_path / "answers-null-odds.json").read_text())
    wanted = [[answer["text"] for answer in target["answers"]] for _, target in dev]
    for some in (answers.values(), wanted):
        assert 0 < sum(map(bool, some)) < len(dev)
    expected = script_2(wanted, list(answers.values()), list(odds.values()), unsure)
    for name in ("exact_match", "f1"):
        assert report[name] == pytest.approx(expected[name], abs=1e-9)
    for part, name in (key for key in expected if isinstance(key, tuple)):
        assert report[part][name] == pytest.approx(expected[part, name], abs=1e-9)
