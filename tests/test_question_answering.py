import json
import random

import numpy as np
import pytest
from conftest import not_served, run_python, served, write_trainable

import keras_bert_app as kba
from keras_bert_app.data import features, spans
from keras_bert_app.metrics import squad as metrics
from keras_bert_app.signatures.answering import answering, most_context
from keras_bert_app.task_model import TaskModel
from keras_bert_app.tasks.question_answering import QuestionAnswering

CONTEXTS = [
    "the great film of Anna's cast, in the U.S. \u2014 a plot!",
    "na\u00efve cafe\u0301 \u4e2d\u6587\u5b57 films \U0001f600\U0001f468\u200d\U0001f469 don\u2019t",
    "film",
    "films " * 40,
    "\u200b film \u0939\u093f\u0928\u094d\u0926\u0940 bad\u00a0film\u2028dull",
    "\u200b",
]


def questions(number, longest=5):
    """Questions of which the answer is `plot` or `cast acting`, or none if the context has neither."""
    chance, rows = random.Random(5), []
    for index in range(number):
        words = chance.choices(["the", "film", "was", "great", "!"], k=chance.randint(1, longest))
        answer = ["plot", "cast acting", None][index % 3]
        place = chance.randint(0, len(words))
        context = " ".join(words[:place] + [answer] * bool(answer) + words[place:])
        found = [{"text": answer, "answer_start": context.index(answer)}] if answer else []
        rows.append((("the film?", context), {"id": f"q{index}", "answers": found}))
    return rows


SERVED = """
import json, sys
import numpy as np
import tensorflow as tf, tensorflow_text

serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
question, context = json.loads(sys.argv[2])
found = serve(question=tf.constant(question), context=tf.constant(context))
decode = np.vectorize(bytes.decode, otypes="O")
print(json.dumps({
    name: (decode(t.numpy()) if t.dtype == tf.string else t.numpy()).tolist() for name, t in found.items()
}))
"""


def same(found, answers):
    """The numbers of a served model are those of Python."""
    for name in ("answer", "start", "end"):
        assert list(found[name]) == [row[name] for row in answers]
    for name in ("score", "no_answer_odds"):
        if name in answers[0]:
            np.testing.assert_allclose(found[name], [row[name] for row in answers], rtol=1e-4, atol=1e-5)


def finetune(folder, rows, **options):
    options = {"epochs": 8, "learning_rate": 1e-2, "sequence_length": 24, "batch_size": 16, **options}
    task = QuestionAnswering(stride=9)
    return kba.finetune(
        task, rows, model=write_trainable(folder / "pretrained"), output=folder / "run", **options
    )


def test_from_data_to_a_fresh_process(tmp_path):
    model = finetune(tmp_path, questions(300), validation=questions(60, longest=40))
    assert model.task.no_answer
    assert model.task.threshold is not None
    long = questions(90, longest=40)
    report = model.evaluate(long)
    assert report["f1"] > 90, report
    assert (report["has_answer"]["total"], report["no_answer"]["total"]) == (60, 30)
    assert "60 questions with an answer" in model.task.show(report)
    (answer,) = model(("the film?", "THE Plot was great!"))
    assert (answer["answer"], answer["start"], answer["end"]) == ("Plot", 4, 8)
    assert answer["candidates"][0]["answer"] == "Plot"
    (nothing,) = model([("the film?", "the film was great")])
    assert (nothing["answer"], nothing["start"], nothing["end"], nothing["score"]) == ("", 0, 0, 0.0)
    loaded = kba.load(tmp_path / "run")
    assert loaded.task == model.task
    pairs = [given for given, _ in long]
    answers = loaded(pairs)
    assert answers == model(pairs)
    texts = json.dumps(list(zip(*pairs, strict=True)))
    path = kba.export(loaded, tmp_path / "exported")
    assert not_served(path) == []
    done = run_python(SERVED, path, texts)
    assert done.returncode == 0, done.stderr
    same(json.loads(done.stdout), answers)

    features_ = model.task.encode(model.preprocessor, pairs)
    files = model.task.predictions(model.predict(features_), features_, long)
    assert files["predictions"] == {
        target["id"]: a["answer"] for (_, target), a in zip(long, answers, strict=True)
    }
    assert list(files["null_odds"].values()) == [a["no_answer_odds"] for a in answers]


def test_every_question_has_an_answer(tmp_path):
    rows = [row for row in questions(300) if row[1]["answers"]]
    model = finetune(tmp_path, rows, epochs=5)
    assert (model.task.no_answer, model.task.threshold) == (False, None)
    report = model.evaluate(rows[:50])
    assert report["f1"] > 90
    assert "has_answer" not in report
    assert "no_answer_odds" not in model(rows[0][0])[0]
    pairs = [given for given, _ in rows[:9]]
    question, context = zip(*pairs, strict=True)
    found = served(kba.export(model, tmp_path / "exported"), question=question, context=context)
    same(found, model(pairs))


LETTERS = (
    "ab \u00e9e\u0301\u4e2d\u6587\U0001f600\U0001f468\u200d.'-@#\u00a0\u0939\u093f\u1100\u1161\u0130\u00df"
)


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_random_weights_and_contexts(pretrained, threshold):
    """Answers are slices of their context, and the graph has the same as Python."""
    chance = random.Random(3)
    preprocessor, encoder = kba.from_pretrained(pretrained, 14)
    task = QuestionAnswering(threshold is not None, threshold, stride=4, max_answer_length=5)
    model = task.build(encoder, 0.0)
    kernel = model.get_layer("span_classifier").kernel
    kernel.assign(3 * np.random.default_rng(2).normal(size=kernel.shape))
    contexts = CONTEXTS + [
        "x" + "".join(chance.choices(LETTERS, k=chance.randint(0, 60))) for _ in range(300)
    ]
    pairs = [(chance.choice(["film?", "the very great film of a plot?"]), context) for context in contexts]
    answers = TaskModel(task, preprocessor, model)(pairs)
    for (_, context), answer in zip(pairs, answers, strict=True):
        for row in (answer, *answer["candidates"]):
            assert 0 <= row["start"] <= row["end"] <= len(context)
            assert context[row["start"] : row["end"]] == row["answer"]
        assert all(row["start"] < row["end"] for row in answer["candidates"])
        assert 0 <= answer["score"] <= 1
    assert answers[5]["answer"] == ""  # there is no word piece in the context
    serve, _ = answering(model, preprocessor, 4, 5, threshold)["serving_default"]
    found = {name: tensor.numpy() for name, tensor in serve(*map(list, zip(*pairs, strict=True))).items()}
    found["answer"] = [text.decode() for text in found["answer"]]
    same(found, answers)
    nothing = np.array([], object)
    assert {tuple(tensor.shape) for tensor in serve(nothing, nothing).values()} == {(0,)}


def test_ten_thousand_logits():
    """The best spans are those of a search through all of them."""
    random_ = np.random.default_rng(0)
    for _ in range(10_000):
        length = int(random_.integers(1, 13))
        start, end = random_.normal(size=(2, length)).round(1)
        begin, stop = np.sort(random_.integers(0, length + 1, 2))
        context = (np.arange(length) >= begin) & (np.arange(length) < stop)
        may_start = context & (random_.random(length) < 0.7)
        longest, number = int(random_.integers(1, 6)), int(random_.integers(1, 9))
        found = spans.best_spans(start, end, may_start, context, longest, number)
        every = [
            (start[a] + end[b], a, b)
            for a in range(length) for b in range(a, min(length, a + longest)) if may_start[a] and context[b]
        ]  # fmt: skip
        every.sort(key=lambda row: -row[0])
        assert found == every[:number]


@pytest.mark.parametrize("stride", [1, 3, 5, 99])
def test_most_context(pretrained, stride):
    """The rule of run_squad.py, in Python and in the graph."""
    preprocessor, _ = kba.from_pretrained(pretrained, 12)
    pairs = [("the film", "a b c d e f g h " * number) for number in (1, 2, 5)] + [("the", "film")]
    found = features.encode_windows(preprocessor, pairs, stride)
    flags = spans.most_context(found, stride)
    contexts = spans.contexts_of(found)
    for example in range(len(pairs)):
        windows = [i for i in range(len(found)) if found.examples[i] == example]
        places = [found.places["starts"][i][contexts[i]] for i in windows]
        for place in np.unique(np.concatenate(places)):
            scores = []
            for row in places:
                where = np.flatnonzero(row == place)
                left = int(where[0]) if len(where) else None
                scores.append(-1 if left is None else min(left, len(row) - 1 - left) + 0.01 * len(row))
            chosen = [
                flags[i][contexts[i]][found.places["starts"][i][contexts[i]] == place].any() for i in windows
            ]
            assert chosen == [number == int(np.argmax(scores)) for number in range(len(windows))]
    packed = preprocessor.windows(tuple(map(list, zip(*pairs, strict=True))), stride)
    is_context = (packed["input_type_ids"] == 1) & (packed["words"] >= 0)
    graph = most_context(is_context, packed["rows"], len(pairs), stride).numpy()
    for row, flag in zip(graph, flags, strict=True):
        assert row[: len(flag)].tolist() == flag.tolist()
        assert not row[len(flag) :].any()


def test_targets(pretrained):
    preprocessor, _ = kba.from_pretrained(pretrained, 9)  # room for five pieces of the context
    task = QuestionAnswering(stride=3)
    context = "a films b c d e f"  # a film ##s b c d e f: windows from 0, 3
    answers = [("a", 0), ("films", 2), ("ilm", 3), ("c d", 10), ("films b c d", 2), ("f", 16), (None, 0)]
    examples = [
        (("the", context), {"id": str(n), "answers": [{"text": t, "answer_start": s}] if t else []})
        for n, (t, s) in enumerate(answers)
    ]
    found = task.encode(preprocessor, [given for given, _ in examples])
    assert found.examples.tolist() == [n for n in range(7) for _ in range(2)]
    targets, weights = task.training_targets(found, examples)
    assert targets.reshape(7, 2, 2).tolist() == [
        [[3, 3], [0, 0]], [[4, 5], [0, 0]], [[4, 4], [0, 0]], [[0, 0], [4, 5]], [[0, 0], [0, 0]],
        [[0, 0], [7, 7]], [[0, 0], [0, 0]],
    ]  # fmt: skip
    assert (weights == 1).all()
    examples[1][1]["answers"][0]["answer_start"] = 3
    assert task.training_targets(found, examples)[1].sum(axis=1).tolist() == [2.0, 2.0, 0.0, 0.0, *[2.0] * 10]
    with pytest.warns(
        UserWarning, match="1 of 7 questions have an answer that is not in the context .*question 1"
    ):
        assert task.learn(examples).no_answer
    with pytest.raises(ValueError, match="no answer is in its"), pytest.warns(UserWarning, match="1 of 1"):
        task.learn(examples[1:2])


def test_questions_without_an_answer_for_a_model_that_always_has_one(pretrained):
    preprocessor, encoder = kba.from_pretrained(pretrained)
    task = QuestionAnswering(no_answer=False)
    model = TaskModel(task, preprocessor, task.build(encoder, 0.0))
    report = model.evaluate([(("the film?", "film film"), {"answers": []}), *questions(2)])
    assert report["no_answer"] == {"total": 1, "exact_match": 0.0, "f1": 0.0}
    assert (
        QuestionAnswering(no_answer=True).learn([row for row in questions(9) if row[1]["answers"]]).no_answer
    )


def write_squad(path, rows):
    paragraphs = [
        {
            "context": context,
            "qas": [{"id": target["id"], "question": question, "answers": target["answers"]}],
        }
        for (question, context), target in rows
    ]
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}))


@pytest.mark.filterwarnings("ignore:the model gives all")
def test_command_line(keras_bert, tmp_path):
    write_trainable(tmp_path / "bert")
    for name, number in (("train", 60), ("test", 9)):
        write_squad(tmp_path / f"{name}.json", questions(number))
    code, out, err = keras_bert(
        "finetune", "question-answering", "--train", "train.json", "--validation", "test.json",
        "--model", "bert", "--output", "run", "--learning-rate", 1e-2, "--epochs", 2,
    )  # fmt: skip
    assert (code, out) == (0, "run\n"), err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]["sequence_length"] == 32
    assert not (tmp_path / "run" / "labels.json").exists()
    code, out, err = keras_bert(
        "evaluate", "run", "--data", "test.json", "--json", "--predictions", "out.json"
    )
    assert code == 0, err
    report = json.loads(out)
    answers = json.loads((tmp_path / "out.json").read_text())
    odds = json.loads((tmp_path / "out-null-odds.json").read_text())
    assert list(answers) == list(odds) == [f"q{n}" for n in range(9)]
    model = kba.load(tmp_path / "run")
    threshold = model.task.threshold
    wanted = [[answer["text"] for answer in target["answers"]] for _, target in questions(9)]
    exact = [
        metrics.exact_match(texts or [""], given)
        for texts, given in zip(wanted, answers.values(), strict=True)
    ]
    assert report["exact_match"] == pytest.approx(100 * sum(exact) / 9)
    assert all(bool(given) == (odds[name] <= threshold) for name, given in answers.items())
    code, out, err = keras_bert("predict", "run", "the film?", "the plot!")
    assert json.loads(out)["context"] == "the plot!", err
    rows = [json.loads(line) for line in keras_bert("predict", "run", "--file", "test.json")[1].splitlines()]
    assert {row["id"]: row["answer"] for row in rows} == answers
    without = json.loads((tmp_path / "test.json").read_text())
    for paragraph in without["data"][0]["paragraphs"]:
        del paragraph["qas"][0]["answers"]
    (tmp_path / "asked.json").write_text(json.dumps(without))
    rows = [json.loads(line) for line in keras_bert("predict", "run", "--file", "asked.json")[1].splitlines()]
    assert {row["id"]: row["answer"] for row in rows} == answers
    (tmp_path / "a.csv").write_text("question,context\nthe film?,the plot!\n")
    assert keras_bert("predict", "run", "--file", "a.csv")[1] == out
    row = '{"id": "x", "asked": "the film?", "context": "the plot!"}\n'
    (tmp_path / "a.jsonl").write_text(row * 2)  # of one document, as it may be
    lines = keras_bert("predict", "run", "--file", "a.jsonl", "--text-column", "asked")[1].splitlines()
    assert list(map(json.loads, lines)) == [{"id": "x", **json.loads(out)}] * 2
    code, _, err = keras_bert("evaluate", "run", "--data", "test.json", "--text-column", "a")
    assert (code, "which has no columns: leave out their names" in err) == (1, True)


def test_predictions_need_their_format(run_folder):
    with pytest.raises(ValueError, match="predictions='a.json': text-classification has no format"):
        kba.load(run_folder).evaluate([("great film", "positive")], predictions="a.json")


def test_to_answer_nothing_can_be_the_best(monkeypatch):
    """The script's threshold is 0 then, which an answer may still be below."""
    examples = [(("the film?", "film"), {"id": "1", "answers": []})]
    monkeypatch.setattr(QuestionAnswering, "_best", lambda *args: ([[]], ["film"], [-2.0]))
    assert QuestionAnswering(no_answer=True).tuned(None, None, examples).threshold < -2.0


def test_mistakes(tmp_path):
    for name in ("stride", "max_answer_length", "num_candidates"):
        with pytest.raises(ValueError, match=f"{name}=0: give a whole number"):
            QuestionAnswering(**{name: 0})
    with pytest.raises(ValueError, match="is a file of SQuAD, which has no columns"):
        QuestionAnswering().read(tmp_path / "a.json", {"text": "a"})
    with pytest.raises(ValueError, match="pair 0 is 'Who.'"):
        QuestionAnswering().check("Who?")


def test_ten_thousand_words(pretrained):
    """A long context takes its windows, and the answer can be in the last."""
    preprocessor, encoder = kba.from_pretrained(pretrained, 32)
    model = QuestionAnswering(False, stride=16)
    asked = TaskModel(model, preprocessor, model.build(encoder, 0.0))
    context = "film " * 10_000 + "plot"
    (answer,) = asked([("the?", context)], batch_size=64)
    assert context[answer["start"] : answer["end"]] == answer["answer"]
    assert len(model.encode(preprocessor, [("the?", context)])) > 600


def test_a_model_of_somebody_else(pretrained, tmp_path):
    preprocessor, encoder = kba.from_pretrained(pretrained)
    kba.save_checkpoint(kba.span_classifier(encoder), tmp_path / "answers", preprocessor=preprocessor)
    model = kba.load(tmp_path / "answers")
    assert model.task == QuestionAnswering(no_answer=False)
    assert model(("film?", CONTEXTS[0]))[0]["answer"] in CONTEXTS[0]
