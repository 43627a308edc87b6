import json
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    CONFIG,
    NO_DROPOUT,
    data_file,
    kill_after,
    not_served,
    reviews,
    served,
    write_pretrained,
    write_trainable,
)  # fmt: skip
from oracle import bert, random_tensors

import keras_bert_app as kba
from keras_bert_app.losses import in_batch_negatives
from keras_bert_app.metrics.retrieval import retrieval
from keras_bert_app.tasks.sentence_similarity import SentenceSimilarity

TEXTS = ["the film was great", "a", "dull and boring acting , not fun !"]


def pairs(number):
    """Pairs of reviews with 4 if they agree and 0 if not."""
    rows = reviews(number)
    found = []
    for index, (text, label) in enumerate(rows):
        other, other_label = rows[(index * 11 + index // 5) % number]
        found.append(((text, other), 4.0 if label == other_label else 0.0))
    return found


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_trainable(tmp_path_factory.mktemp("similarity") / "bert", **NO_DROPOUT)


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A model that knows which reviews agree, and its run folder."""
    run = tmp_path_factory.mktemp("trained") / "run"
    model = kba.finetune(
        "sentence-similarity", pairs(140), pairs(70), model=folder, output=run, epochs=12,
        learning_rate=6e-3, batch_size=16, sequence_length=16,
    )  # fmt: skip
    return model, run


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_vectors_are_what_numpy_gives(pretrained, pooling, normalize):
    tensors = random_tensors()
    model = kba.load(
        pretrained, task="sentence-similarity", options={"pooling": pooling, "normalize": normalize}
    )
    features = model.task.encode(model.preprocessor, TEXTS)
    for vector, ids in zip(model.outputs(TEXTS, 2), features.rows["input_word_ids"], strict=True):
        layers, _ = bert(
            tensors, ids, np.ones(len(ids)), np.zeros(len(ids), int), CONFIG["num_attention_heads"]
        )
        pooled = {"mean": layers[-1].mean(0), "cls": layers[-1][0], "max": layers[-1].max(0)}[pooling]
        np.testing.assert_allclose(vector, unit(pooled) if normalize else pooled, atol=1e-5)
    assert model([TEXTS[0], TEXTS[1]])[1] == {
        "embedding": pytest.approx(model.outputs(TEXTS)[1].tolist(), abs=1e-6)
    }
    first, second, third = unit(kba.embed(TEXTS, model))
    found = model([(TEXTS[0], TEXTS[1]), (TEXTS[0], TEXTS[2]), (TEXTS[1], TEXTS[1])])
    expected = [first @ second, first @ third, 1.0]
    np.testing.assert_allclose([row["similarity"] for row in found], expected, atol=1e-5)
    assert model((TEXTS[0], TEXTS[1])) == [found[0] | {"similarity": pytest.approx(expected[0], abs=1e-5)}]


def test_no_such_pooling(pretrained):
    _, encoder = kba.from_pretrained(pretrained)
    with pytest.raises(ValueError, match="pooling='sum': one of mean, cls, max"):
        kba.sentence_encoder(encoder, "sum")


def test_in_batch_negatives():
    random = np.random.default_rng(0)
    vectors = unit(random.normal(size=(7, 2, 5))).astype("float32")
    texts = np.arange(14).reshape(7, 2)
    texts[3, 1], texts[5, 0] = texts[1, 1], texts[2, 0]  # one answer to two texts, two answers to one
    expected = []
    for row in range(7):
        others = [
            column for column in range(7)
            if column == row or (texts[row, 0] != texts[column, 0] and texts[row, 1] != texts[column, 1])
        ]  # fmt: skip
        logits = 11.0 * vectors[others, 1].astype("float64") @ vectors[row, 0]
        expected.append(np.log(np.exp(logits).sum()) - logits[others.index(row)])
    found = keras.ops.convert_to_numpy(in_batch_negatives(11.0)(texts, vectors))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_retrieval(monkeypatch):
    monkeypatch.setattr("keras_bert_app.metrics.retrieval.BLOCK", 4)
    random = np.random.default_rng(1)
    first, second = unit(random.normal(size=(2, 9, 3)))
    texts = np.arange(18).reshape(9, 2)
    second[7], texts[7, 1] = second[2], texts[2, 1]  # the same text twice is not in its own way
    texts[6, 0] = texts[1, 0]  # nor are two answers to the same text
    second[8] = second[4]  # another text with the same vector is
    ranks, losses = [], []
    for row in range(9):
        others = [other for other in range(9) if not (texts[other] == texts[row]).any()]
        scores = {other: first[row] @ second[other] for other in others}
        right = first[row] @ second[row]
        ranks.append(1 + sum(score >= right for score in scores.values()))
        losses.append(
            np.log(np.exp(5 * right) + np.exp(5 * np.array(list(scores.values()))).sum()) - 5 * right
        )
    found = retrieval(first, second, texts, 5.0)
    assert found["ranks"].tolist() == ranks
    assert found["mean_reciprocal_rank"] == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert found["accuracy"] == pytest.approx(ranks.count(1) / 9)
    assert found["loss"] == pytest.approx(np.mean(losses))


def test_what_is_learned_from_the_scores():
    def ranges(*scores):
        return SentenceSimilarity().learn([(("a", "b"), score) for score in scores]).score_range

    assert ranges(0, 2.5, 5) == [0.0, 5.0]
    assert ranges(0.2, 0.7) == [0.0, 1.0]
    assert ranges(-0.5, 0.5) == [0.0, 1.0]
    with pytest.raises(ValueError, match="the scores go from -3 to 3: give score_range="):
        ranges(-3, 3)
    with pytest.raises(ValueError, match="no score is above 0"):
        ranges(0, 0)
    with pytest.raises(ValueError, match="row 2 has the score 'yes': give a number"):
        ranges(1, "yes")
    with pytest.raises(ValueError, match="row 3 has the score 'unknown': give a number"):
        ranges("2.5", "3", "unknown")
    with pytest.raises(ValueError, match="row 1 has the score 'nan': give a number"):
        ranges("nan", 1)
    examples = [(("a", "b"), score) for score in (-1, 0, 1)]  # without a range, as if it were learned
    assert SentenceSimilarity().training_targets(None, examples)[0].tolist() == [[-1.0], [0.0], [1.0]]
    with pytest.raises(ValueError, match="row 1 has one text: give two"):
        SentenceSimilarity().learn([("a", 1.0)])
    task = SentenceSimilarity(score_range=[-3, 3])
    examples = [(("a", "b"), score) for score in (-3, 0, 3)]
    assert task.learn(examples).training_targets(None, examples)[0].tolist() == [[0.0], [0.5], [1.0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "first"}, "pooling='first': one of mean, cls, max"),
        ({"objective": "triplets"}, "objective='triplets': one of cosine, in_batch_negatives"),
        ({"scale": 0}, "scale=0: give a number above 0"),
        ({"scale": "20"}, "scale='20': give a number"),
        ({"normalize": "False"}, "normalize='False': give True or False"),
        ({"score_range": [1, 1]}, r"score_range=\[1, 1\]: give two numbers"),
        ({"score_range": 5}, "score_range=5: give two numbers"),
        ({"score_range": ["0", "5"]}, "score_range=.*: give two numbers"),
    ],
)
def test_mistakes_of_options(options, message):
    with pytest.raises(ValueError, match=message):
        SentenceSimilarity(**options)


def test_a_batch_has_both_texts_of_each_pair(folder):
    preprocessor, _ = kba.from_pretrained(folder)
    task = SentenceSimilarity()
    examples = [(("a film", "the cast"), 0), (("a", "it was very very dull"), 1), (("the", "the"), 0.5)]
    features = task.encode(preprocessor, [given for given, _ in examples])
    assert (len(features), features.item_lengths().tolist()) == (3, [4, 7, 3])
    inputs, targets = features.batch(np.array([1, 2]), task.training_targets(features, examples))
    assert inputs["input_mask"].sum(axis=1).tolist() == [3, 7, 3, 3]
    assert (inputs["input_word_ids"][2] == inputs["input_word_ids"][3]).all()
    assert targets.tolist() == [[1.0], [0.5]]


def test_it_learns(trained, tmp_path):
    model, run = trained
    report = model.evaluate(pairs(60))
    assert report["spearman"] > 0.7
    assert model.task.score_range == [0.0, 4.0]
    history = json.loads((run / "history.json").read_text())
    assert max(row["validation_spearman"] for row in history) > 0.7
    assert "Spearman" in model.task.show(report)
    agree, disagree = model(
        [("the great film", "the very fun films"), ("the great film", "the very dull films")]
    )
    assert agree["similarity"] > disagree["similarity"] + 0.3
    again = kba.load(run)
    assert again.task == model.task
    np.testing.assert_allclose(again.outputs(TEXTS), model.outputs(TEXTS), atol=1e-6)
    from_strings = again.text_model()(tf.constant(TEXTS))
    np.testing.assert_allclose(from_strings, model.outputs(TEXTS), atol=1e-5)
    path = kba.export(run, tmp_path / "exported")
    assert not_served(path) == []
    np.testing.assert_allclose(served(path, text=TEXTS)["embedding"], model.outputs(TEXTS), atol=1e-5)
    found = served(path, "similarity", text=TEXTS, text_pair=TEXTS[::-1])["similarity"]
    expected = [row["similarity"] for row in model(list(zip(TEXTS, TEXTS[::-1], strict=True)))]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_worst_mistakes_are_the_furthest_off(trained):
    report = trained[0].evaluate([(("a great film", "a great film"), 0), (("it was fun", "a great film"), 4)])
    assert report["worst_mistakes"][0] == {
        "row": 1, "text": ("a great film", "a great film"), "score": 0, "similarity": pytest.approx(1.0),
    }  # fmt: skip


def test_in_batch_negatives_are_learned_and_resumed(folder, tmp_path, monkeypatch):
    """Reviews belong to what they say; a run that is killed ends as one that is not."""
    said = {"positive": "it was k and a bc", "negative": "it was q of the plot"}
    rows = [(text, said[label]) for text, label in reviews(70)]

    def run(name):
        return kba.finetune(
            SentenceSimilarity(objective="in_batch_negatives"), rows, rows[:20], model=folder,
            output=tmp_path / name, epochs=20, learning_rate=4e-3, batch_size=8, sequence_length=16,
        )  # fmt: skip

    model = run("a")
    report = model.evaluate(rows)
    assert report["accuracy"] > 0.8
    assert report["mean_reciprocal_rank"] >= report["accuracy"]
    assert "mean reciprocal rank" in model.task.show(report)
    with monkeypatch.context() as patch:
        kill_after(patch, 5, signal.SIGTERM)
        with pytest.raises(SystemExit):
            run("b")
    assert (tmp_path / "b.unfinished").exists()
    for ours, theirs in zip(run("b").model.get_weights(), model.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (tmp_path / "pairs.csv").write_text("text,text_pair\nfun,moving\n")
    assert model.task.read(tmp_path / "pairs.csv", {}) == [(("fun", "moving"), None)]
    with pytest.raises(ValueError, match="pair 0 is 'fun'"):
        model.evaluate(["fun"])


# Models of sentence-transformers


def write_sentence_transformers(folder, pooling, *types):
    write_pretrained(folder)
    modules = [
        {"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", *types)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 9}')
    return folder


@pytest.mark.parametrize(
    ("pooling", "types", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("Normalize",), ("cls", True)),
        ({"pooling_mode_max_tokens": True}, (), ("max", False)),
        ({"pooling_mode": "mean"}, (), ("mean", False)),
    ],
)
def test_pooling_and_length_of_sentence_transformers(tmp_path, pooling, types, expected):
    folder = write_sentence_transformers(tmp_path / "model", pooling, *types)
    model = kba.load(folder)
    assert (model.task.pooling, model.task.normalize) == expected
    assert model.preprocessor.sequence_length == 9
    assert kba.load(folder, options={"pooling": "mean"}).task.pooling == "mean"


def test_the_folders_of_old_sentence_transformers(tmp_path):
    """Before version 2 the BERT was in a folder of its own."""
    new = write_sentence_transformers(tmp_path / "0_new", {"pooling_mode_max_tokens": True})
    old = tmp_path / "old"
    shutil.copytree(new, old / "0_Transformer")
    for name in ("modules.json", "1_Pooling"):
        shutil.move(old / "0_Transformer" / name, old / name)
    found = [kba.load(folder)(["fun"]) for folder in (new, old, old / "0_Transformer")]
    assert found[0] == found[1] == found[2]
    assert kba.load(old).task.pooling == "max"
    assert kba.load(old).preprocessor.sequence_length == 9


@pytest.mark.parametrize(
    ("pooling", "types", "message"),
    [
        ({"pooling_mode_weightedmean_tokens": True}, (), "asks for weightedmean_tokens: one of mean_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, (), "cls_token, max_tokens"),
        ({}, (), "asks for no pooling"),
        ({"pooling_mode": "mean"}, ("Dense",), "has the layers Dense, which are not supported"),
    ],
)
def test_what_is_not_supported_of_sentence_transformers(tmp_path, pooling, types, message):
    folder = write_sentence_transformers(tmp_path / "model", pooling, *types)
    with pytest.raises(ValueError, match=message):
        kba.load(folder)
    kba.from_pretrained(folder)  # the BERT alone can be used


def test_damaged_modules(tmp_path):
    folder = write_sentence_transformers(tmp_path / "model", {"pooling_mode": "mean"})
    (folder / "modules.json").write_text("{}")
    with pytest.raises(ValueError, match=r"modules.json holds no JSON list"):
        kba.load(folder)


def test_the_pooling_is_kept_in_training(tmp_path):
    folder = write_sentence_transformers(tmp_path / "model", {"pooling_mode_cls_token": True})
    model = kba.finetune("sentence-similarity", pairs(8), model=folder, output=tmp_path / "run", epochs=1)
    assert (model.task.pooling, model.task.normalize) == ("cls", False)
    with pytest.raises(ValueError, match="pooling='max': the model was built with 'cls', train it anew"):
        kba.load(tmp_path / "run", options={"pooling": "max"})
    with pytest.raises(ValueError, match="normalize=True: the model was built with False"):
        model(["a"], normalize=True)
    with pytest.warns(UserWarning, match="run/model.keras has no pooler"):  # it was not trained
        again = kba.finetune(
            "sentence-similarity", pairs(8), model=tmp_path / "run", output=tmp_path / "again", epochs=1
        )
    assert (again.task.pooling, again.task.normalize) == ("cls", False)
    kba.convert(tmp_path / "run", tmp_path / "converted")
    assert kba.open_checkpoint(tmp_path / "converted").name_of("pooler/kernel") is None
    task = SentenceSimilarity(pooling="mean")
    model = kba.finetune(task, pairs(8), model=folder, output=tmp_path / "mean", epochs=1)
    assert (model.task.pooling, model.task.normalize) == ("mean", False)


def test_of_a_task_without_windows_none_are_advised(folder, tmp_path):
    pairs = [(("the film " * 40, "a film"), 0.5), (("a film", "the plot"), 1.0)]
    with pytest.warns(UserWarning, match="1 of 4 inputs .* and are cut: give a larger one$"):
        kba.finetune("sentence-similarity", pairs, model=folder, output=tmp_path / "run", epochs=1)


def test_negatives_need_a_batch(folder, tmp_path):
    task = SentenceSimilarity(objective="in_batch_negatives")
    with pytest.raises(
        ValueError, match="batch_size=1: sentence-similarity with these options needs at least 2"
    ):
        kba.finetune(task, [("a", "b")], model=folder, output=tmp_path / "run", batch_size=1)
    with pytest.raises(ValueError, match="batch_tokens=31: the longest texts need 32"):
        kba.finetune(task, [("a", "b")] * 2, model=folder, output=tmp_path / "run", batch_tokens=31)
    with pytest.raises(ValueError, match="row 1 is .*: in_batch_negatives takes pairs alone, no scores"):
        task.read([(("a", "b"), 1.0)], {})


def test_minilm_is_what_sentence_transformers_gives():
    folder = data_file("minilm")
    stored = json.loads((folder / "reference.json").read_text())["texts"]
    texts = [row if isinstance(row, str) else row["text"] for row in stored]
    expected = np.load(folder / "reference.npz")["sentence_embedding"]
    np.testing.assert_allclose(kba.embed(texts, folder), expected, atol=2e-6)


@pytest.mark.slow
def test_minilm_without_training_on_sts():
    columns = {"text": "sentence1", "pair": "sentence2", "label": "score"}
    report = kba.load(data_file("minilm")).evaluate(data_file("glue/STS-B/dev.tsv.gz"), columns=columns)
    assert report["spearman"] == pytest.approx(0.8672, abs=1e-4)
    assert report["pearson"] == pytest.approx(0.8696, abs=1e-4)


# The command line


@pytest.mark.filterwarnings("ignore:the model gives all")
def test_command_line(keras_bert, trained, tmp_path):
    lines = [f"{first}\t{second}\t{score}" for (first, second), score in pairs(30)]
    (tmp_path / "train.tsv").write_text("\n".join(["one\ttwo\tscore", *lines]))
    columns = ("--text-column", "one", "--pair-column", "two", "--label-column", "score")
    code, out, err = keras_bert(
        "finetune", "sentence-similarity", "--train", "train.tsv", "--model", trained[1].parent / "none",
        "--output", "run", *columns,
    )  # fmt: skip
    assert code == 1
    assert "none" in err
    model, run = trained
    code, out, err = keras_bert("evaluate", run, "--data", "train.tsv", "--json", *columns)
    assert json.loads(out)["examples"] == 30, err
    code, out, err = keras_bert("predict", run, "a great film", "it was fun")
    expected = model(("a great film", "it was fun"))[0]["similarity"]
    assert json.loads(out) == {
        "text": "a great film", "text_pair": "it was fun", "similarity": pytest.approx(expected, abs=1e-6),
    }, err  # fmt: skip
    code, out, err = keras_bert("predict", run, "a great film")
    assert (code, out) == (1, "")
    assert "give two texts, 1 are given" in err
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    assert (
        keras_bert("embed", run, "--file", "texts.txt", "--output", "v.npy")[1] == "v.npy: 3 vectors of 16\n"
    )
    np.testing.assert_allclose(np.load("v.npy"), model.outputs(TEXTS), atol=1e-6)
    code, out, err = keras_bert("embed", run, "--output", "v.jsonl", stdin="\n".join(TEXTS).encode())
    rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == TEXTS, err
    np.testing.assert_allclose([row["embedding"] for row in rows], model.outputs(TEXTS), atol=1e-6)
    code, out, err = keras_bert("embed", run, "--file", "texts.txt", "--output", "v.txt")
    assert (code, "must end in .npy or .jsonl" in err) == (1, True)
