import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import checkpoint_with, not_served, reviews, served, write_trainable

import keras_bert_app as kba
from keras_bert_app.tasks.multiple_choice import MultipleChoice

QUESTIONS = [
    ("the film was", ["great", "dull and boring", "a b c"]),
    ("it was", ["the very bad plot", "fun"]),
]


def rows(number):
    """The choice that says something good is right."""
    found = []
    for index, (text, label) in enumerate(reviews(number)):
        other = "it was very dull" if label == "positive" else "i loved it"
        right = index // 2 % 2 if label == "positive" else 1 - index // 2 % 2
        choices = [text, other] if right == (label != "positive") else [other, text]
        found.append((("a film", choices), right))
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choice")
    model = kba.finetune(
        "multiple-choice", rows(140), rows(60), model=write_trainable(folder / "bert"), output=folder / "run",
        epochs=4, learning_rate=2e-2, batch_size=16, sequence_length=24,
    )  # fmt: skip
    return model, folder / "run"


def test_tokens_of_a_batch_are_those_of_all_choices(tmp_path):
    given = {"model": write_trainable(tmp_path / "bert"), "output": tmp_path / "run", "epochs": 1}
    with pytest.raises(ValueError, match="batch_tokens=31: the longest texts need 32"):
        kba.finetune("multiple-choice", rows(20), batch_tokens=31, sequence_length=24, **given)
    kba.finetune("multiple-choice", rows(20), batch_tokens=32, sequence_length=24, **given)


def test_it_learns(trained, tmp_path):
    model, run = trained
    report = model.evaluate(rows(60))
    assert report["accuracy"] > 0.9
    assert "accuracy" in model.task.show(report)
    assert model.task.num_choices == 2
    again = kba.load(run)
    assert again.task == model.task
    answers = model(QUESTIONS, batch_size=2)
    for row, other in zip(again(QUESTIONS), answers, strict=True):
        assert (row["choice"], row["index"]) == (other["choice"], other["index"])
        np.testing.assert_allclose(row["scores"], other["scores"], atol=1e-6)
    for (_, choices), row in zip(QUESTIONS, answers, strict=True):
        assert len(row["scores"]) == len(choices)
        assert sum(row["scores"]) == pytest.approx(1)
        assert row["score"] == max(row["scores"]) == row["scores"][row["index"]]
        assert row["choice"] == choices[row["index"]]
    assert model(QUESTIONS[1])[0]["choice"] == "fun"
    logits = again.text_model()([tf.constant(["it was"] * 2), tf.constant(QUESTIONS[1][1])])
    powers = np.exp(np.asarray(logits)[:, 0])
    np.testing.assert_allclose(powers / powers.sum(), answers[1]["scores"], atol=1e-5)
    path = kba.export(run, tmp_path / "exported")
    assert not_served(path) == []
    padded = [[*choices, *[""] * (3 - len(choices))] for _, choices in QUESTIONS]
    found = served(path, text=[text for text, _ in QUESTIONS], choices=padded)
    assert found["choice"] == [row["choice"] for row in answers]
    assert found["index"] == [row["index"] for row in answers]
    for scores, row in zip(found["probabilities"], answers, strict=True):
        np.testing.assert_allclose(scores, [*row["scores"], *[0] * (3 - len(row["scores"]))], atol=1e-5)
    np.testing.assert_allclose(found["score"], [row["score"] for row in answers], atol=1e-5)


def test_report():
    task, examples = MultipleChoice(num_choices=2), [(("a", ["b", "c"]), 1), (("d", ["e", "f"]), 1)]
    features = type("Features", (), {"examples": np.array([0, 0, 1, 1])})
    outputs = [np.array([value]) for value in (2.0, 1.0, 0.0, 3.0)]
    report = task.report(outputs, features, examples)
    wrong, right = np.exp(2) / (np.exp(2) + np.exp(1)), np.exp(3) / (1 + np.exp(3))
    assert report["accuracy"] == 0.5
    assert report["loss"] == pytest.approx(-(np.log(1 - wrong) + np.log(right)) / 2, rel=1e-5)
    mistake = {"row": 1, "text": "a", "label": "c", "predicted": "b", "score": pytest.approx(wrong, rel=1e-5)}
    assert report["worst_mistakes"] == [mistake]
    assert not task.collapsed(outputs, features)
    assert task.collapsed([np.array([1.0])] * 4, features)


SWAG = "video-id,fold-ind,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label"


def test_files(tmp_path):
    path = tmp_path / "swag.csv"
    path.write_text(f'{SWAG}\nx,1,"A man, sits.",He,gold,stands.,runs.,eats.,falls.,2\n')
    expected = (("A man, sits.", ["He stands.", "He runs.", "He eats.", "He falls."]), 2)
    assert MultipleChoice().read(path, {}) == [expected]
    assert MultipleChoice().read_inputs(path, {}) == [expected[0]]
    assert MultipleChoice().read(path, {"text": "sent2"}) == [
        (("He", ["stands.", "runs.", "eats.", "falls."]), 2)
    ]
    path = tmp_path / "a.jsonl"
    lines = [
        {"text": "a", "choices": ["b", "c"], "label": 0},
        {"text": "d", "choices": ["e", "f", "g"], "label": 2},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert MultipleChoice().read(path, {}) == [(("a", ["b", "c"]), 0), (("d", ["e", "f", "g"]), 2)]
    with pytest.raises(ValueError, match="row 2 has 3 choices, not 2: give all of"):
        MultipleChoice().learn(MultipleChoice().read(path, {}))
    path = tmp_path / "b.tsv"
    path.write_text("text\tanswer_1\tanswer_2\tanswer_10\tlabel\na\tb\tc\td\t0\na\tb\tc\t\t1\n")
    assert MultipleChoice().read(path, {}) == [(("a", ["b", "c", "d"]), 0), (("a", ["b", "c"]), 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "text,choice0,choice1,label\na,b,c,2\n",
            "a.csv, row 1: the label is 2: .*, from 0 to 1",
        ),
        ("text,choice0,choice1,label\na,b,c,b\n", "a.csv, row 1: the label is 'b': give the index"),
        ("text,choice0,choice1,label\na,b,,0\n", "a.csv, row 1 has 1 choices: give at least two"),
        ("text,choice0,choice1,choice2,label\na,,b,c,1\n", "row 1: choice0 is empty, but choice2 is not"),
        ("text,ending0,ending1,answer0,label\na,b,c,d,1\n", "row 1 has choices under several names, ending0"),
        ("text,choice0,choice1,label\n ,b,c,0\n", "a.csv, row 1, text: the text is empty"),
        ("texts,choice0,choice1,label\na,b,c,0\n", "a.csv, row 1: there is no 'text'"),
        ("text,choice0,choice1\na,b,c\n", "a.csv, row 1: there is no 'label'"),
        ("text,choice0,choice1,label\n", "a.csv is empty"),
    ],
)
def test_damaged_files(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        MultipleChoice().read(path, {})


def test_mistakes():
    task = MultipleChoice()
    with pytest.raises(ValueError, match="the data, row 1: 'a' is no pair"):
        task.read(["a"], {})
    with pytest.raises(ValueError, match=r"the data, row 1 is 'a': give \(text, \[choice, choice, ...\]\)"):
        task.read([("a", 0)], {})
    with pytest.raises(ValueError, match=r"input 0 is \('a', 'b'\): give \(text, \[choice"):
        task.check([("a", "b")])
    with pytest.raises(ValueError, match="input 0, choice 1: the text is empty"):
        task.check(("a", ["b", ""]))
    with pytest.raises(ValueError, match="give a text and at least two choices, 2 texts are given"):
        task.from_texts(["a", "b"])
    with pytest.raises(ValueError, match="x gives 3 numbers for a text, a model of multiple-choice one"):
        MultipleChoice.of_checkpoint(checkpoint_with(["a", "b", "c"]))


def test_the_number_of_choices_is_part_of_a_training(trained):
    with pytest.raises(ValueError, match="num_choices=9: the model was built with 2, train it anew"):
        kba.load(trained[1], options={"num_choices": 9})
    with pytest.raises(ValueError, match="row 1 has 2 choices, not 3"):
        MultipleChoice(num_choices=3).learn(rows(2))


@pytest.mark.parametrize("choices", [np.zeros((0, 3), str), np.zeros((0, 0), str)])
def test_an_empty_batch_is_served(trained, choices):
    serve, _ = trained[0].task.serve(trained[0].model, trained[0].preprocessor)["serving_default"]
    found = serve(tf.constant([], tf.string), tf.constant(choices, tf.string))
    assert found["probabilities"].shape == choices.shape
    assert found["index"].shape == (0,)
    found = serve(tf.constant(["a", "b"]), tf.constant([["", ""], ["c", ""]]))
    assert found["index"].numpy().tolist() == [-1, 0]
    assert found["score"].numpy().tolist() == [0.0, 1.0]


def test_a_model_of_somebody_else(pretrained, tmp_path):
    """No checkpoint says that it is of multiple choice: by default it gives a number."""
    preprocessor, encoder = kba.from_pretrained(pretrained)
    scorer = kba.text_classifier(encoder, 1)
    kba.save_checkpoint(scorer, tmp_path / "scorer", preprocessor=preprocessor)
    assert kba.load(tmp_path / "scorer").task.problem_type == "regression"
    model = kba.load(tmp_path / "scorer", task="multiple-choice")
    values = kba.load(tmp_path / "scorer", options={"pairs": True})([("it was", c) for c in QUESTIONS[1][1]])
    powers = np.exp([row["value"] for row in values])
    np.testing.assert_allclose(model(QUESTIONS[1])[0]["scores"], powers / powers.sum(), atol=1e-5)


def test_command_line(keras_bert, trained, tmp_path):
    lines = [json.dumps({"text": t, "choices": c, "label": label}) for (t, c), label in rows(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    _, out, err = keras_bert("evaluate", trained[1], "--data", "a.jsonl", "--json")
    assert json.loads(out)["accuracy"] > 0.9, err
    _, out, err = keras_bert("predict", trained[1], "it was", "the very bad plot", "fun")
    row = json.loads(out)
    assert (row["text"], row["choices"], row["choice"]) == (*QUESTIONS[1], "fun"), err
    _, out, err = keras_bert("predict", trained[1], "--file", "a.jsonl")
    found = [json.loads(line)["index"] for line in out.splitlines()]
    assert found[:2] == [label for _, label in rows(2)], err
