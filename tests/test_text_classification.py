import dataclasses
import json

import numpy as np
import pytest
from conftest import checkpoint_with, not_served, reviews, served, write_trainable

import keras_bert_app as kba
from keras_bert_app import tasks
from keras_bert_app.data.features import Features
from keras_bert_app.task_model import TaskModel
from keras_bert_app.tasks.text_classification import TextClassification

# Ten answers of a classifier of three labels, of which six are right.
TRUTH = ["a", "a", "a", "a", "b", "b", "b", "c", "c", "c"]
PREDICTED = [0, 0, 0, 1, 1, 2, 2, 2, 2, 0]
EXAMPLES = [(f"text {i}", label) for i, label in enumerate(TRUTH)]
SINGLE = "single_label_classification"


def single(labels):
    return TextClassification(labels, SINGLE)


def outputs():
    logits = np.zeros((10, 3))
    logits[np.arange(10), PREDICTED] = np.linspace(1, 3, 10)
    return logits


def one_each(number):
    """Features of which only the examples count."""
    return Features({}, np.arange(number))


def report_of(task, logits, examples):
    return task.report(list(logits), one_each(len(examples)), examples)


def test_a_model_that_was_put_together_has_one_label_for_each_text(pretrained):
    preprocessor, encoder = kba.from_pretrained(pretrained, sequence_length=12)
    options = {"labels": list("abc")}
    model = TaskModel("text-classification", preprocessor, kba.text_classifier(encoder, 3), options)
    (answer,) = model("a film")
    assert sum(answer["scores"].values()) == pytest.approx(1)
    assert model.evaluate([("a film", "a"), ("the plot", "b")])["accuracy"] in (0, 0.5, 1)
    number = TaskModel("text-classification", preprocessor, kba.text_classifier(encoder, 1))
    assert list(number("a film")[0]) == ["value"]
    with pytest.raises(ValueError, match="the model has 3 outputs, the task 1: give the model's own labels"):
        TaskModel("text-classification", preprocessor, model.model)("a film")


def test_report():
    report = report_of(single(["a", "b", "c"]), outputs(), EXAMPLES)
    assert report["accuracy"] == 0.6
    assert report["examples"] == 10
    assert report["labels"] == ["a", "b", "c"]
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
    assert report["macro_f1"] == pytest.approx((3 / 4 + 0.4 + 4 / 7) / 3)
    assert [row["row"] for row in report["worst_mistakes"]] == [10, 7, 6, 4]
    first = report["worst_mistakes"][0]
    assert (first["text"], first["label"], first["predicted"]) == ("text 9", "c", "a")
    assert first["score"] == pytest.approx(np.exp(3) / (np.exp(3) + 2))
    shares = np.exp(outputs()) / np.exp(outputs()).sum(1, keepdims=True)
    truth = ["abc".index(label) for label in TRUTH]
    assert report["loss"] == pytest.approx(-np.log(shares[np.arange(10), truth]).mean(), rel=1e-6)
    json.dumps(report)


def test_a_label_that_is_never_predicted():
    report = report_of(single(["a", "b"]), np.array([[2.0, 1.0], [2.0, 1.0]]), [("x", "a"), ("y", "b")])
    assert report["per_class"]["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert report["matthews_correlation"] == 0.0


def test_no_more_than_twenty_mistakes():
    report = report_of(single(["a", "b"]), np.tile([0.0, 1.0], (50, 1)), [("x", "a")] * 50)
    assert len(report["worst_mistakes"]) == 20


def test_show():
    task = single(["a", "b", "c"])
    text = task.show(report_of(task, outputs(), EXAMPLES))
    assert "accuracy 0.6000 on 10 examples" in text
    assert "the 4 worst mistakes" in text
    assert "row 10: c taken for a (0.909): text 9" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["a", "0.7500", "0.7500", "0.7500", "4"] in lines
    assert ["b", "0", "1", "2"] in lines


def test_show_many_and_many_labels():
    task, examples = single([0, 1]), [("x", 0)] * 6000 + [("x", 1)] * 6000
    text = task.show(report_of(task, np.tile([1.0, 0.0], (12000, 1)), examples))
    assert ["0", "6,000", "0"] in [line.split() for line in text.splitlines()]
    task = single(list(range(150)))
    text = task.show(report_of(task, np.eye(150)[::-1], [("x", i) for i in range(150)]))
    assert "confusion matrix of 150 labels: too wide to show" in text
    assert max(map(len, text.splitlines())) < 120


def test_answers():
    (answer,) = single([10, 20, 30]).answers([np.array([1.0, 2.0, 0.0])], one_each(1), ["x"])
    assert answer["label"] == 20
    assert answer["score"] == pytest.approx(np.e**2 / (np.e + np.e**2 + 1))
    assert list(answer["scores"]) == ["10", "20", "30"]
    assert sum(answer["scores"].values()) == pytest.approx(1)


def targets_of(task, examples, class_weights=None):
    return task.training_targets(one_each(len(examples)), examples, class_weights)


def test_labels():
    def learn(*targets):
        return TextClassification().learn([("x", target) for target in targets])

    assert learn("b", "a", "b") == single(["a", "b"])
    assert learn(7, -1) == single([-1, 7])
    np.testing.assert_array_equal(targets_of(single([-1, 7]), [("x", 7), ("y", -1)])[0], [1, 0])
    # A file with few labels may look like one of numbers, or the other way round.
    several = single(["1", "2", "unknown"])
    np.testing.assert_array_equal(targets_of(several, [("x", 2), ("y", "1")])[0], [1, 0])
    np.testing.assert_array_equal(targets_of(single([0, 1]), [("x", "0"), ("y", "1")])[0], [0, 1])
    with pytest.raises(ValueError, match="row 3 has the label 'x'"):
        targets_of(single([0, 1]), [("x", "0"), ("y", "1"), ("z", "x")])
    with pytest.raises(ValueError, match=r"one of 0, 1, .*, 19, \.\.\.$"):
        targets_of(single(list(range(150))), [("x", "y")])
    with pytest.raises(ValueError, match="all labels are 'a'"):
        learn("a")
    with pytest.raises(ValueError, match="mix names and numbers"):
        learn("a", 1)
    with pytest.raises(
        ValueError, match="row 2 has the label 'z', which the model does not know: one of 'a', 'b'"
    ):
        targets_of(single(["a", "b"]), [("x", "a"), ("y", "z")])
    with pytest.raises(ValueError, match=r"row 1 has the label \['a'\]: the model takes one label"):
        targets_of(single(["a", "b"]), [("x", ["a"])])
    with pytest.raises(ValueError, match="some of the texts are pairs, others are not"):
        TextClassification().learn([(("x", "y"), 1), ("z", 2)])
    two = TextClassification(["a", "b"], SINGLE, pairs=True)
    with pytest.raises(ValueError, match="row 1 has one text, the model takes two: name .* --pair-column"):
        targets_of(two, [("x", "a")])
    with pytest.raises(ValueError, match="row 1 has two texts, the model takes one"):
        targets_of(single(["a", "b"]), [(("x", "y"), "a")])
    with pytest.raises(ValueError, match=r"row 1 has the label \['x'\]: the model takes one label"):
        TextClassification().learn([("a", ["x"]), ("b", "y")])
    given = TextClassification(["z", "a", "q"])
    assert given.learn([("x", "a"), ("y", "z")]).labels == ["z", "a", "q"]
    assert TextClassification(problem_type="regression").learn([("x", 1), ("y", 2)]).labels is None


def test_options():
    with pytest.raises(ValueError, match="problem_type='ranking': one of single_label_classification, multi"):
        TextClassification(problem_type="ranking")
    for threshold in (1.0, "x", 1):
        with pytest.raises(ValueError, match=f"threshold={threshold!r}: give a probability"):
            TextClassification(threshold=threshold)
    with pytest.raises(ValueError, match="stride=0: give a whole number"):
        TextClassification(stride=0)
    with pytest.raises(
        ValueError, match="columns has 'labels': 'x': give names, str, for some of 'text', 'pair'"
    ):
        tasks.check_columns({"labels": "x"})
    with pytest.raises(ValueError, match="columns has 'text': 1: give names"):
        tasks.check_columns({"text": 1})
    with pytest.raises(ValueError, match="text-classification has no option 'stides': .*labels, .*stride"):
        tasks.get_task("text-classification", stides=128)
    with pytest.raises(ValueError, match="task=3: one of fill-mask"):
        tasks.get_task(3)


def test_labels_that_are_no_list_of_names():
    for labels in ("neg,pos", [], ["a"], ["a", "a"], ["a", " a"], [1, "1"], ["a", None]):
        with pytest.raises(ValueError, match="labels=.*: give a list of names or numbers, each once"):
            TextClassification(labels)
    with pytest.raises(ValueError, match=r"labels=\['a', 'b'\]: regression has none"):
        TextClassification(["a", "b"], "regression")
    for separator in (5, ""):
        with pytest.raises(ValueError, match="label_separator=.*: give what is between labels"):
            TextClassification(label_separator=separator)
    assert TextClassification(["a"], "multi_label_classification").labels == ["a"]


def test_labels_of_a_model_can_have_other_names_but_not_another_number():
    task = single(["a", "b"])
    assert tasks.replaced(task, {"labels": ["x", "y"]}).labels == ["x", "y"]
    with pytest.raises(ValueError, match="3 labels: the model was built with 2, train it anew"):
        tasks.replaced(task, {"labels": ["a", "b", "c"]})


@pytest.mark.parametrize("labels", [["no", "yes", "maybe"], ["yes", "yes"]])
def test_labels_of_a_checkpoint(tmp_path, labels):
    preprocessor, encoder = kba.from_pretrained(write_trainable(tmp_path / "bert"))
    classifier = kba.text_classifier(encoder, len(labels))
    kba.save_checkpoint(classifier, tmp_path / "a", preprocessor=preprocessor, labels=labels)
    assert len(set(kba.load(tmp_path / "a").labels)) == len(labels)
    with pytest.raises(
        ValueError, match=rf"labels=\['a', .*: .*model.* has {len(labels)} outputs, name each"
    ):
        kba.load(tmp_path / "a", options={"labels": ["a", "b", "c", "d"]})
    assert kba.load(tmp_path / "a", options={"labels": list("abcd")[: len(labels)]}).labels[0] == "a"


def test_an_unknown_label_is_named_with_its_file(tmp_path):
    path = tmp_path / "v{x}.csv"
    path.write_text("text,label\nx,a\ny,z\n")
    examples = single(["a", "b"]).read(path, {})
    with pytest.raises(
        ValueError, match=r"v{x}\.csv, row 2 has the label 'z', which the model does not know"
    ):
        targets_of(single(["a", "b"]), examples)


def test_labels_that_look_like_numbers_are_those_of_the_model(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\nx,1.0\ny,2.0\n")
    task = single(["1.0", "2.0", "n/a"])
    np.testing.assert_array_equal(targets_of(task, task.read(path, {}))[0], [0, 1])
    for labels in (["1", "2"], ["1", "2", "unknown"], [1, 2], [" 1", " 2"], [1.0, 2.0]):
        np.testing.assert_array_equal(targets_of(single(labels), task.read(path, {}))[0], [0, 1])
    assert single(np.array([0, 1])) == single([np.int64(0), 1]) == single([0, 1])


def test_class_weights():
    examples = [("x", label) for label in "aaab"]
    task = single(["a", "b"])
    np.testing.assert_allclose(targets_of(task, examples, "balanced")[1], [2 / 3, 2 / 3, 2 / 3, 2])
    np.testing.assert_allclose(targets_of(task, examples, {"a": np.float32(1), "b": 5})[1], [1, 1, 1, 5])
    with pytest.raises(ValueError, match="class_weights=.* give 'balanced' or a weight for each of"):
        targets_of(task, examples, {"a": 1})
    for weights in ({"a": 1, "b": -5.0}, {"a": 1, "b": "q"}, {"a": 1, "b": np.inf}):
        with pytest.raises(ValueError, match="class_weights=.*: give numbers of at least 0"):
            targets_of(task, examples, weights)
    several = TextClassification(["a", "b"], "multi_label_classification")
    with pytest.raises(ValueError, match="is for one label a text: not for multi_label_classification"):
        targets_of(several, [("x", ["a"])], "balanced")


def test_collapsed():
    assert single([0, 1]).collapsed([np.array([1, 2]), np.array([0, 1])], None)
    assert not single([0, 1]).collapsed([np.array([1, 2]), np.array([3, 1])], None)
    several = TextClassification(["a", "b"], "multi_label_classification", threshold=0.9)
    assert several.collapsed([np.array([0.0, 5.0]), np.array([1.0, 5.0])], None)
    assert not several.collapsed([np.array([0.0, 5.0]), np.array([3.0, 5.0])], None)
    numbers = TextClassification(problem_type="regression")
    assert numbers.collapsed([np.array([1.0]), np.array([1.0005])], None)
    assert not numbers.collapsed([np.array([1.0]), np.array([1.01])], None)


def test_several_labels():
    examples = [("w", ["a", "b"]), ("x", []), ("y", ["c"]), ("z", ["a"])]
    task = TextClassification().learn(examples)
    assert (task.problem_type, task.labels, task.metric) == (
        "multi_label_classification", ["a", "b", "c"], "micro_f1",
    )  # fmt: skip
    targets, weights = targets_of(task, examples)
    np.testing.assert_array_equal(targets, [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]])
    assert weights is None
    logits = np.array([[2.0, -1, -2], [-3, -3, -3], [-1, -1, 1], [0.5, 3, -1]])
    answers = task.answers(list(logits), one_each(4), "wxyz")
    assert [answer["labels"] for answer in answers] == [["a"], [], ["c"], ["b", "a"]]
    assert answers[0]["scores"]["a"] == pytest.approx(1 / (1 + np.exp(-2)))
    report = report_of(task, logits, examples)
    assert report["exact_match"] == 0.5
    assert report["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert report["per_class"]["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    chance = 1 / (1 + np.exp(-logits))
    expected = -np.log(np.where(targets == 1, chance, 1 - chance)).mean()
    assert report["loss"] == pytest.approx(expected, rel=1e-5)
    assert [row["row"] for row in report["worst_mistakes"]] == [4, 1]
    assert "row 4: a taken for a+b: z" in task.show(report)
    assert "micro F1 0.7500" in task.show(report)
    low = dataclasses.replace(task, threshold=0.2)
    assert low.answers([np.array([-1.0, -3, -1.2])], one_each(1), "w")[0]["labels"] == ["a", "c"]
    tuned = task.tuned(list(logits), one_each(4), examples)
    assert tuned.threshold == pytest.approx((1 / (1 + np.exp(-0.5)) + 1 / (1 + np.exp(1))) / 2)
    assert not tuned.is_tuned
    with pytest.raises(ValueError, match="no text has a label"):
        TextClassification().learn([("w", []), ("x", [])])
    with pytest.raises(ValueError, match="row 1 has the label 'a': the model takes a list of labels"):
        targets_of(task, [("x", "a")])


def test_numbers():
    examples = [("w", 1.0), ("x", 2.5), ("y", 2.5), ("z", 4)]
    task = TextClassification().learn(examples)
    assert (task.problem_type, task.labels, task.metric) == ("regression", None, "spearman")
    np.testing.assert_array_equal(targets_of(task, examples)[0], [[1], [2.5], [2.5], [4]])
    values = np.array([[1.5], [2.0], [3.0], [100.0]])
    assert task.answers(list(values), one_each(4), "wxyz")[1] == {"value": 2.0}
    report = report_of(task, values, examples)
    truth = np.array([1, 2.5, 2.5, 4])
    assert report["pearson"] == pytest.approx(np.corrcoef(truth, values[:, 0])[0, 1])
    ranks = np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1]
    assert report["spearman"] == pytest.approx(ranks)
    assert report["mean_absolute_error"] == pytest.approx((0.5 + 0.5 + 0.5 + 96) / 4)
    assert report["worst_mistakes"][0]["row"] == 4
    assert "row 4: 4 taken for 100.000: z" in task.show(report)
    with pytest.raises(ValueError, match="row 1 has the label 'a': the model gives numbers"):
        targets_of(task, [("x", "a")])
    constant = report_of(task, np.ones((4, 1)), examples)
    assert (constant["pearson"], constant["spearman"]) == (0.0, 0.0)


def pairs(number):
    """Pairs of which the second text decides."""
    texts = [text for text, _ in reversed(reviews(number))]
    return [((first, text), label) for first, (text, label) in zip(texts, reviews(number), strict=True)]


def several(number):
    """Texts with one label or two."""
    labels = {"positive": ["liked"], "negative": ["dull", "left"]}
    return [(text, labels[label]) for text, label in reviews(number)]


def numbers(number):
    return [(text, 1.5 if label == "positive" else -0.5) for text, label in reviews(number)]


@pytest.mark.parametrize("kind", [pairs, several, numbers])
def test_every_kind_from_data_to_a_served_model(kind, tmp_path):
    """Learns, is saved, loaded, and exported, and gives the same answers each time."""
    model = kba.finetune(
        "text-classification", kind(210), kind(40), model=write_trainable(tmp_path / "pretrained"),
        output=tmp_path / "run", epochs=8, learning_rate=1e-2, sequence_length=24, batch_size=16,
    )  # fmt: skip
    report = model.evaluate(kind(70))
    assert report[model.task.metric] > {"pairs": 0.95, "several": 0.9, "numbers": 0.8}[kind.__name__]
    loaded = kba.load(tmp_path / "run")
    assert loaded.task == model.task
    inputs = [given for given, _ in kind(7)]
    assert loaded(inputs) == model(inputs)
    answers = loaded(inputs)
    path = kba.export(loaded, tmp_path / "exported")
    assert not_served(path) == []
    columns = list(zip(*inputs, strict=True)) if kind is pairs else [inputs]
    texts = dict(zip(model.task.text_inputs, columns, strict=True))
    found = served(path, **texts)
    if kind is numbers:
        assert set(found) == {"value"}
        np.testing.assert_allclose(found["value"], [row["value"] for row in answers], atol=1e-5)
        return
    scores = [list(row["scores"].values()) for row in answers]
    np.testing.assert_allclose(found["probabilities"], scores, atol=1e-5)
    if kind is several:
        given = [labels[:count] for labels, count in zip(found["labels"], found["count"], strict=True)]
        assert given == [row["labels"] for row in answers]
        assert all(not any(row[n:]) for row, n in zip(found["labels"], found["count"], strict=True))
    else:
        assert found["label"] == [row["label"] for row in answers]


def test_long_texts_in_windows(tmp_path):
    """What decides is at the end of texts that do not fit; their windows share their weight."""
    rows = [("film " * (3 + index % 40) + text, label) for index, (text, label) in enumerate(reviews(140))]
    model = kba.finetune(
        TextClassification(stride=6), rows, model=write_trainable(tmp_path / "pretrained"),
        output=tmp_path / "run", epochs=6, learning_rate=5e-3, sequence_length=16, batch_size=16,
    )  # fmt: skip
    task = kba.load(tmp_path / "run").task
    assert task.stride == 6
    texts = [text for text, _ in rows]
    features = task.encode(model.preprocessor, texts)
    _, weights = task.training_targets(features, rows)
    assert len(features) > 2 * len(rows)
    shares = np.bincount(features.examples, weights)
    np.testing.assert_allclose(shares, np.full(140, shares[0]), rtol=1e-5)
    assert weights.mean() == pytest.approx(1)
    logits = np.stack(model.outputs(texts))
    pooled = np.stack([logits[features.examples == i].mean(axis=0) for i in range(140)])
    shares = np.exp(pooled) / np.exp(pooled).sum(axis=1, keepdims=True)
    answers = [list(row["scores"].values()) for row in model(texts)]
    np.testing.assert_allclose(answers, shares, atol=1e-5)
    path = kba.export(model, tmp_path / "exported")
    assert not_served(path) == []
    np.testing.assert_allclose(served(path, text=texts)["probabilities"], shares, atol=1e-5)


def test_models_of_others():
    def of(labels, problem_type=None):
        return TextClassification.of_checkpoint(checkpoint_with(labels, problem_type))

    assert of(["a", "b"]) == single(["a", "b"])
    assert of(["LABEL_0"]) == TextClassification(problem_type="regression")
    assert of(["a", "b"], "multi_label_classification").problem_type == "multi_label_classification"
    with pytest.raises(ValueError, match="x has no names of labels"):
        of(None)


def test_options_at_loading(run_folder):
    assert kba.load(run_folder, options={"stride": 9}).task.stride == 9
    with pytest.raises(ValueError, match="text-classification has no option 'strides'"):
        kba.load(run_folder, options={"strides": 9})


@pytest.mark.filterwarnings("ignore:the model gives all")  # so little does not teach it
def test_what_is_cut_is_said(tmp_path):
    write_trainable(tmp_path / "pretrained")
    rows = [(text + " film" * 20 * (index < 7), label) for index, (text, label) in enumerate(reviews(28))]
    with pytest.warns(
        UserWarning, match=r"7 of 28 inputs \(25%\) do not fit in sequence_length=16 and are cut"
    ):
        kba.finetune(
            "text-classification", rows, model=tmp_path / "pretrained", output=tmp_path / "run",
            epochs=1, learning_rate=2e-2, sequence_length=16, batch_size=16,
        )  # fmt: skip


def test_classifier_shares_the_encoder(pretrained):
    _, encoder = kba.from_pretrained(pretrained)
    model = kba.text_classifier(encoder, 3)
    assert model.get_layer("layer_1") is encoder.get_layer("layer_1")
    assert model.output.dtype == "float32"
    for build in (kba.text_classifier, kba.token_classifier):
        with pytest.raises(ValueError, match="num_classes=0"):
            build(encoder, 0)


def test_tasks_are_found_by_name():
    names = ("fill-mask", "multiple-choice", "next-sentence", "question-answering")
    names += ("sentence-similarity", "text-classification", "token-classification")
    assert tasks.task_names() == list(names)
    with pytest.raises(ValueError, match="there is no task 'summarization': one of fill-mask"):
        tasks.get_task("summarization")


@pytest.mark.parametrize("name", tasks.task_names())
def test_every_task_answers_every_question(name):
    for line in tasks.__doc__.splitlines():
        if line.startswith("- `"):
            assert hasattr(tasks.get_task(name), line[3:].split("`")[0].split("(")[0]), line
