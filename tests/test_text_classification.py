import json

import numpy as np
import pytest

import keras_bert_app as kba
from keras_bert_app import tasks
from keras_bert_app.tasks import text_classification as task

# Ten answers of a classifier of three labels, of which six are right.
TRUTH = ["a", "a", "a", "a", "b", "b", "b", "c", "c", "c"]
PREDICTED = [0, 0, 0, 1, 1, 2, 2, 2, 2, 0]
EXAMPLES = [(f"text {i}", label) for i, label in enumerate(TRUTH)]


def outputs():
    logits = np.zeros((10, 3))
    logits[np.arange(10), PREDICTED] = np.linspace(1, 3, 10)
    return logits


def test_report():
    report = task.report(EXAMPLES, outputs(), ["a", "b", "c"])
    assert report["accuracy"] == 0.6
    assert report["confusion_matrix"] == [[3, 1, 0], [0, 1, 2], [1, 0, 2]]
    assert report["per_class"]["a"] == pytest.approx(
        {"precision": 3 / 4, "recall": 3 / 4, "f1": 3 / 4, "support": 4}
    )
    assert report["per_class"]["b"] == pytest.approx(
        {"precision": 1 / 2, "recall": 1 / 3, "f1": 0.4, "support": 3}
    )
    assert report["per_class"]["c"] == pytest.approx(
        {"precision": 1 / 2, "recall": 2 / 3, "f1": 4 / 7, "support": 3}
    )
    assert [row["row"] for row in report["worst_mistakes"]] == [10, 7, 6, 4]
    first = report["worst_mistakes"][0]
    assert (first["text"], first["label"], first["predicted"]) == ("text 9", "c", "a")
    assert first["score"] == pytest.approx(np.exp(3) / (np.exp(3) + 2))
    shares = np.exp(outputs()) / np.exp(outputs()).sum(1, keepdims=True)
    truth = ["abc".index(label) for label in TRUTH]
    assert report["loss"] == pytest.approx(-np.log(shares[np.arange(10), truth]).mean(), rel=1e-6)
    json.dumps(report)


def test_a_label_that_is_never_predicted():
    report = task.report([("x", "a"), ("y", "b")], np.array([[2.0, 1.0], [2.0, 1.0]]), ["a", "b"])
    assert report["per_class"]["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}


def test_no_more_than_twenty_mistakes():
    report = task.report([("x", "a")] * 50, np.tile([0.0, 1.0], (50, 1)), ["a", "b"])
    assert len(report["worst_mistakes"]) == 20


def test_show():
    text = task.show(task.report(EXAMPLES, outputs(), ["a", "b", "c"]))
    assert "accuracy 0.6000 on 10 examples" in text
    assert "the 4 worst mistakes" in text
    assert "row 10: c taken for a (0.909): text 9" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["a", "0.7500", "0.7500", "0.7500", "4"] in lines
    assert ["b", "0", "1", "2"] in lines


def test_show_many_and_many_labels():
    examples = [("x", 0)] * 6000 + [("x", 1)] * 6000
    text = task.show(task.report(examples, np.tile([1.0, 0.0], (12000, 1)), [0, 1]))
    assert ["0", "6,000", "0"] in [line.split() for line in text.splitlines()]
    labels = list(range(150))
    text = task.show(task.report([("x", i) for i in labels], np.eye(150)[::-1], labels))
    assert "confusion matrix of 150 labels: too wide to show" in text
    assert max(map(len, text.splitlines())) < 120


def test_answers():
    (answer,) = task.answers(np.array([[1.0, 2.0, 0.0]]), [10, 20, 30])
    assert answer["label"] == 20
    assert answer["score"] == pytest.approx(np.e**2 / (np.e + np.e**2 + 1))
    assert list(answer["scores"]) == ["10", "20", "30"]
    assert sum(answer["scores"].values()) == pytest.approx(1)


def test_labels():
    assert task.find_labels([("x", "b"), ("y", "a"), ("z", "b")]) == ["a", "b"]
    assert task.find_labels([("x", 7), ("y", -1)]) == [-1, 7]
    np.testing.assert_array_equal(task.encode_labels([("x", 7), ("y", -1)], [-1, 7]), [1, 0])
    # A file with few labels may look like one of numbers, or the other way round.
    np.testing.assert_array_equal(task.encode_labels([("x", 2), ("y", "1")], ["1", "2", "unknown"]), [1, 0])
    np.testing.assert_array_equal(task.encode_labels([("x", "0"), ("y", "1")], [0, 1]), [0, 1])
    with pytest.raises(ValueError, match="row 3 has the label 'x'"):
        task.encode_labels([("x", "0"), ("y", "1"), ("z", "x")], [0, 1])
    with pytest.raises(ValueError, match=r"one of 0, 1, .*, 19, \.\.\.$"):
        task.encode_labels([("x", "y")], list(range(150)))
    with pytest.raises(ValueError, match="all labels are 'a'"):
        task.find_labels([("x", "a")])
    with pytest.raises(ValueError, match="mix names and numbers"):
        task.find_labels([("x", "a"), ("y", 1)])
    with pytest.raises(
        ValueError, match="row 2 has the label 'z', which the model does not know: one of 'a', 'b'"
    ):
        task.encode_labels([("x", "a"), ("y", "z")], ["a", "b"])


def test_collapsed():
    assert task.collapsed(np.array([[1, 2], [0, 1]]))
    assert not task.collapsed(np.array([[1, 2], [3, 1]]))


def test_classifier_shares_the_encoder(pretrained):
    _, encoder = kba.from_pretrained(pretrained)
    model = kba.text_classifier(encoder, 3)
    assert model.get_layer("layer_1") is encoder.get_layer("layer_1")
    assert model.output.dtype == "float32"
    for build in (kba.text_classifier, kba.token_classifier):
        with pytest.raises(ValueError, match="num_classes=0"):
            build(encoder, 0)


def test_tasks_are_found_by_name():
    assert tasks.task_names() == ["text-classification"]
    with pytest.raises(ValueError, match="there is no task 'summarization': one of text-classification"):
        tasks.get_task("summarization")


@pytest.mark.parametrize("name", tasks.task_names())
def test_every_task_answers_every_question(name):
    for line in tasks.__doc__.splitlines():
        if line.startswith("- `"):
            assert hasattr(tasks.get_task(name), line[3:].split("`")[0].split("(")[0]), line
