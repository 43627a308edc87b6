import io
import json
import re
import sys

import formats
import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    NO_DROPOUT,
    VOCABULARY,
    data_file,
    not_served,
    reviews,
    served,
    write_pretrained,
    write_trainable,
)  # fmt: skip
from oracle import bert
from test_checkpoints import mlm_logits

import keras_bert_app as kba
from keras_bert_app import cli
from keras_bert_app.data import buckets
from keras_bert_app.task_model import TaskModel
from keras_bert_app.tasks.fill_mask import FillMask
from keras_bert_app.tasks.next_sentence import NextSentence

TENSORS = formats.pretraining_tensors()
# Of unequal lengths; every word is in the vocabulary.
TEXTS = [
    "The film was [MASK]",
    "[MASK] , I loved it and the [MASK] was very good !",
    "not [MASK] a film of the cast and the plot , but of [MASK] and [MASK] .",
    "A [MASK] cast",
]
PAIRS = [
    ("a great film", "i loved it"),
    ("the plot was dull . not fun !", "b"),
    ("it was", "the acting of a b c"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hugging Face folder with both pretraining heads."""
    folder = tmp_path_factory.mktemp("heads")
    return write_pretrained(folder, formats.huggingface_names(TENSORS))


def guesses_of(model):
    """The model as a function from texts to the guesses for their masks."""
    return lambda texts, **options: [answer["masks"] for answer in model(texts, **options)]


@pytest.fixture(scope="module")
def fill_mask(folder):
    return guesses_of(kba.load(folder, task="fill-mask"))


@pytest.fixture(scope="module")
def next_sentence(folder):
    return kba.load(folder, task="next-sentence")


def ids_of(text):
    """The ids of a text in which a space stands between all pieces."""
    words = [word if word == "[MASK]" else word.lower() for word in text.split()]
    return [VOCABULARY.index(word) if word in VOCABULARY else 1 for word in words]


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def expected_of(text):
    """The probabilities for each mask of a text, `(masks, vocab_size)`."""
    ids = np.array([2, *ids_of(text), 3])
    ones, zeros = np.ones(len(ids)), np.zeros(len(ids), int)
    layers, _ = bert(TENSORS, ids, ones, zeros, heads=2)
    exact = {name: value.astype("float64") for name, value in TENSORS.items()}
    return softmax(mlm_logits(exact, layers[-1][ids == 4], "huggingface"))


def close(found, expected):
    """The same guesses in the same order, the scores but for rounding: it depends on the batch."""
    for mask, other in zip(found, expected, strict=True):
        assert [guess["text"] for guess in mask] == [guess["text"] for guess in other]
        ours, theirs = ([guess["score"] for guess in guesses] for guesses in (mask, other))
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_fill_mask_is_what_numpy_gives(fill_mask):
    answers = fill_mask(TEXTS, top_k=7, batch_size=3)
    assert [len(answer) for answer in answers] == [1, 2, 3, 1]
    for text, answer in zip(TEXTS, answers, strict=True):
        for guesses, expected in zip(answer, expected_of(text)[:, : len(VOCABULARY)], strict=True):
            assert [guess["id"] for guess in guesses] == np.argsort(-expected)[:7].tolist()
            assert [guess["token"] for guess in guesses] == [VOCABULARY[guess["id"]] for guess in guesses]
            scores = [guess["score"] for guess in guesses]
            np.testing.assert_allclose(scores, np.sort(expected)[::-1][:7], atol=1e-5)
    json.dumps(answers)  # of plain numbers


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_batch_is_as_one_by_one(fill_mask, batch_size):
    together = fill_mask(TEXTS, batch_size=batch_size)
    for text, answer in zip(TEXTS, together, strict=True):
        [alone] = fill_mask(text)
        assert len(alone[0]) == 5
        close(answer, alone)


def test_the_text_of_a_guess(fill_mask):
    """Each has one mask filled and the others left, and is as it was written otherwise."""
    text = "  Café,\tfilm[MASK] AND [MASK] [mask]"
    first, second = fill_mask(text, top_k=len(VOCABULARY))[0]
    first, second = ({guess["token"]: guess["text"] for guess in guesses} for guesses in (first, second))
    assert first["great"] == "  Café,\tfilmgreat AND [MASK] [mask]"
    assert first["##s"] == "  Café,\tfilms AND [MASK] [mask]"
    assert second["great"] == "  Café,\tfilm[MASK] AND great [mask]"
    assert second["##ing"] == "  Café,\tfilm[MASK] ANDing [mask]"


@pytest.mark.parametrize("task", ["fill-mask", "next-sentence"])
def test_the_second_call_makes_no_new_graph(folder, task, monkeypatch):
    made, runner = [], buckets.runner
    monkeypatch.setattr(buckets, "runner", lambda *args: made.append(args) or runner(*args))
    model = kba.load(folder, task=task)
    for _ in range(2):
        model(TEXTS if task == "fill-mask" else PAIRS)
    assert len(made) == 1


def test_few_rows_that_are_asked_about_once(folder, monkeypatch):
    """They go through the model without a graph, and have the same answers."""
    made, runner = [], buckets.runner
    monkeypatch.setattr(buckets, "runner", lambda *args, **how: made.append(how) or runner(*args, **how))
    model = kba.load(folder, task="fill-mask")
    expected = model(TEXTS)
    model.is_asked_once = True
    for answer, other in zip(model(TEXTS), expected, strict=True):
        close(answer["masks"], other["masks"])
    model(TEXTS * 3)
    assert made == [{}, {"traced": False}]


def test_options_that_alternate_make_no_new_graphs(fill_mask, monkeypatch):
    first = [fill_mask(TEXTS, top_k=top_k) for top_k in (2, 3, 4)]
    monkeypatch.setattr(FillMask, "predictor", None)  # must not be called
    assert [fill_mask(TEXTS, top_k=top_k) for top_k in (2, 3, 4)] == first


def test_targets(fill_mask):
    [[everything]] = fill_mask(TEXTS[0], top_k=len(VOCABULARY))
    wanted = ["Great", "dull", "##s", "fun", "great", "a", "the", "?"]
    [[guesses]] = fill_mask(TEXTS[0], targets=wanted)
    pieces = {word.lower() for word in wanted}
    assert [g["token"] for g in guesses] == [g["token"] for g in everything if g["token"] in pieces]
    close([guesses], [[g for g in everything if g["token"] in pieces]])
    assert len(fill_mask(TEXTS, targets=wanted, top_k=2)[1][1]) == 2
    assert [g["token"] for g in fill_mask(TEXTS[0], targets="fun")[0][0]] == ["fun"]


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["a [MASK]", "a film"], {}, r"text 1 has no \[MASK\]: write it, in capitals, .*: 'a film'"),
        ("a [mask]", {}, r"text 0 has no \[MASK\]: .*'a \[mask\]'"),
        (["a [MASK]", " "], {}, "text 1: the text is empty"),
        ([3], {}, r"text 0: the text is 3 \(int\)"),
        ("a [MASK]", {"top_k": 0}, "top_k=0: give a whole number of at least 1"),
        ("a [MASK]", {"top_k": 55}, "top_k=55: give a whole number from 1 to 54"),
        ("a [MASK]", {"top_k": 2.0}, "top_k=2.0: give a whole number"),
        ("a [MASK]", {"top_k": 3, "targets": ["a", "the"]}, "top_k=3: give a whole number from 1 to 2"),
        ("a [MASK]", {"batch_size": 0}, "batch_size=0: give a whole number of at least 1"),
        ("a [MASK]", {"targets": []}, "targets is empty: give at least one word"),
        ("a [MASK]", {"targets": ["a", " "]}, r"targets\[1\]: the text is empty"),
        ("a [MASK]", {"targets": ["a", 3]}, r"targets\[1\]: the text is 3 \(int\)"),
        ("a [MASK]", {"targets": ["films"]}, r"targets\[0\]='films' is not one word piece, but film ##s"),
        ("a [MASK]", {"targets": ["zebra"]}, r"targets\[0\]='zebra' is not one word piece, but \[UNK\]"),
        ("a [MASK]", {"targets": ["\u200b"]}, r"targets\[0\]=.* is not one word piece, but none"),
        (["[MASK] " + "a " * 28 + "[MASK] [MASK]"], {},
         r"text 0 has 3 \[MASK\], of which 2 are within the 32 word pieces that are read: shorten"),
    ],
)  # fmt: skip
def test_mistakes_of_fill_mask(fill_mask, texts, options, message):
    assert len(VOCABULARY) == 54
    with pytest.raises(ValueError, match=message):
        fill_mask(texts, **options)


def test_a_text_may_be_cut_behind_its_masks(fill_mask):
    [answer] = fill_mask("a [MASK] film " + "the " * 99)
    assert answer[0][0]["text"].endswith("film " + "the " * 99)


def test_no_texts(fill_mask, next_sentence):
    assert fill_mask([]) == next_sentence([]) == []


def test_an_embedding_with_more_rows_than_tokens(fill_mask):
    """Rows without a token have their share of the probability, but are no guesses."""
    [[guesses]] = fill_mask(TEXTS[0], top_k=len(VOCABULARY))
    assert sorted(guess["token"] for guess in guesses) == sorted(VOCABULARY)
    total = expected_of(TEXTS[0])[0, : len(VOCABULARY)].sum()
    assert 0.1 < total < 0.99
    np.testing.assert_allclose(sum(guess["score"] for guess in guesses), total, atol=1e-5)


def test_from_objects_of_the_same_session(folder):
    """The tokenizer of a training takes no [MASK] in a text; that of the answers is another."""
    preprocessor, model = kba.from_pretrained(folder, head="pretrainer")
    found = TaskModel("fill-mask", preprocessor, FillMask().pretrained(model))
    assert preprocessor.tokenizer.special_tokens == ()
    assert found.preprocessor.tokenizer.special_tokens == ("[MASK]",)
    assert TaskModel("fill-mask", found.preprocessor, found.model).preprocessor is found.preprocessor
    close(guesses_of(found)(TEXTS[0])[0], guesses_of(kba.load(folder, task="fill-mask"))(TEXTS[0])[0])
    before = guesses_of(found)(TEXTS[0], targets=["great"])[0][0][0]["score"]
    model.get_layer("mlm_logits").bias.assign_add(np.eye(61)[VOCABULARY.index("great")] * 3.0)
    assert guesses_of(found)(TEXTS[0], targets=["great"])[0][0][0]["score"] > 2 * before  # not a copy
    answerer = TaskModel("next-sentence", preprocessor, NextSentence().pretrained(model))
    assert answerer(PAIRS[0])[0].keys() == {"is_next", "score"}


def test_a_model_without_the_head(folder):
    preprocessor, encoder = kba.from_pretrained(folder)
    masked_lm = kba.pretrainer(encoder, ["masked_lm"])
    for model in (encoder, kba.text_classifier(encoder, 3), masked_lm):
        with pytest.raises(ValueError, match="has no next_sentence head: give one from pretrainer"):
            NextSentence().pretrained(model)
    with pytest.raises(ValueError, match="the model bert_encoder has no masked_lm head"):
        FillMask().pretrained(encoder)
    model = FillMask().pretrained(masked_lm)
    assert len(TaskModel("fill-mask", preprocessor, model)("a [MASK]")[0]["masks"][0]) == 5
    other = kba.BertPreprocessor([*VOCABULARY, *"0123456789"], sequence_length=32)
    with pytest.raises(ValueError, match="the tokenizer has 64 tokens, the model 61"):
        TaskModel("fill-mask", other, model)("a [MASK]")


def test_next_sentence_is_what_numpy_gives(next_sentence):
    expected = []
    for first, second in PAIRS:
        first, second = [2, *ids_of(first), 3], [*ids_of(second), 3]
        types = np.repeat([0, 1], [len(first), len(second)])
        _, pooled = bert(TENSORS, np.array(first + second), np.ones(len(types)), types, heads=2)
        logits = pooled @ TENSORS["cls.seq_relationship.weight"].T + TENSORS["cls.seq_relationship.bias"]
        expected.append(softmax(logits)[0])
    answers = next_sentence(PAIRS, batch_size=2)
    np.testing.assert_allclose([answer["score"] for answer in answers], expected, atol=1e-5)
    assert [answer["is_next"] for answer in answers] == [bool(score >= 0.5) for score in expected]
    assert all(type(answer["is_next"]) is bool for answer in answers)
    for pair, answer in zip(PAIRS, answers, strict=True):
        [alone] = next_sentence(pair)
        assert abs(alone["score"] - answer["score"]) < 1e-6
        assert next_sentence([list(pair)]) == [alone]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("a film", r"pair 0 is 'a film': give two texts, \(first, second\)"),
        (["a film", "it was"], "pair 0 is 'a film': give two texts"),
        ([("a", "b"), ("a", "b", "c")], "pair 1 is .*'c'"),
        (("a", "b", "c"), "pair 0 is .*'c'"),
        ([("a", "b"), ("a", " ")], "pair 1, second: the text is empty"),
        ([("", "b")], "pair 0, first: the text is empty"),
        ([("a", None)], r"pair 0, second: the text is None \(NoneType\)"),
    ],
)
def test_mistakes_of_next_sentence(next_sentence, pairs, message):
    with pytest.raises(ValueError, match=message):
        next_sentence(pairs)
    with pytest.raises(ValueError, match="batch_size=0"):
        next_sentence(PAIRS, batch_size=0)


def test_real_checkpoints_give_what_is_stored_with_them():
    """Rows 0 and 1 of the stored inputs are pairs, row 2 is a text with one mask at position 2."""
    folder = data_file("checkpoints/huggingface_pretraining")
    expected = np.load(folder / "expected.npz")
    model = kba.load(folder, task="fill-mask")
    size = model.preprocessor.tokenizer.vocabulary_size
    [[guesses]] = guesses_of(model)("Un[MASK] words: tokenizers, 1984!", top_k=size)
    scores = softmax(expected["mlm_logits"][2, 0].astype("float64"))
    found = np.zeros(size)
    found[[guess["id"] for guess in guesses]] = [guess["score"] for guess in guesses]
    np.testing.assert_allclose(found, scores, atol=1e-7)
    other = kba.load(folder, task="next-sentence").model
    answers = TaskModel("next-sentence", model.preprocessor, other)([  # which knows [MASK]
        ("The capital of France is [MASK].", "It was a [MASK] city, and many people lived there for years"),
        ("She said that he [MASK] a dog.", "They [MASK] not know."),
    ])  # fmt: skip
    scores = softmax(expected["nsp_logits"].astype("float64"))[:2, 0]
    np.testing.assert_allclose([answer["score"] for answer in answers], scores, atol=1e-6)


@pytest.mark.parametrize("name", ["tf1_google", "keras_hub_preset", "tfhub_encoder"])
def test_other_formats(name):
    folder = data_file(f"checkpoints/{name}")
    folder = folder / "saved_model" if name == "tfhub_encoder" else folder
    assert len(guesses_of(kba.load(folder, task="fill-mask"))("the [MASK]")[0][0]) == 5
    if name == "tf1_google":
        assert 0 <= kba.load(folder, task="next-sentence")(("the", "of"))[0]["score"] <= 1
        return
    with pytest.raises(
        ValueError, match="has no next_sentence head, which next-sentence needs: its heads are "
    ):
        kba.load(folder, task="next-sentence")


def test_a_pair_of_tfhub():
    pair = tuple(
        str(data_file(f"checkpoints/tfhub_{part}/saved_model")) for part in ("preprocess", "encoder")
    )
    assert len(guesses_of(kba.load(pair, task="fill-mask"))("the [MASK]")[0][0]) == 5
    with pytest.raises(ValueError, match="its heads are masked_lm. .* task='fill-mask' or '"):
        kba.load(pair)


def test_partial_heads(tmp_path):
    """A file of a masked language model alone, without a pooler; one with a next sentence head alone."""
    tensors = formats.huggingface_names(TENSORS)
    kinds = {"masked_lm": ("cls.predictions", "fill-mask"), "next_sentence": ("cls.seq", "next-sentence")}
    for head, (prefix, task) in kinds.items():
        left = {k: v for k, v in tensors.items() if k.startswith(prefix) or not k.startswith("cls.")}
        if head == "masked_lm":
            left = {name: value for name, value in left.items() if "pooler" not in name}
        folder = write_pretrained(tmp_path / head, left)
        for name in ("fill-mask", "next-sentence"):
            if name == task:
                assert len(kba.load(folder, task=name)("[MASK]" if name == "fill-mask" else PAIRS)) in (1, 3)
                continue
            with pytest.raises(ValueError, match=f"which {name} needs: its heads are {head}"):
                kba.load(folder, task=name)
        with pytest.raises(ValueError, match=f"its heads are {head}. Without .* there is task='{task}' or"):
            kba.load(folder)


def test_mistakes_of_load(folder, pretrained, run_folder):
    with pytest.raises(ValueError, match="there is no task 'fill': one of fill-mask, multiple-choice"):
        kba.load(folder, task="fill")
    with pytest.raises(ValueError, match="has no masked_lm head, which fill-mask needs: its heads are none"):
        kba.load(pretrained, task="fill-mask")
    with pytest.raises(
        ValueError, match="no masked_lm head, which fill-mask needs: its heads are text_class"
    ):
        kba.load(run_folder, task="fill-mask")
    message = "its heads are masked_lm, next_sentence. Without .* task='fill-mask' or 'next-sentence' or"
    with pytest.raises(ValueError, match=message):
        kba.load(folder)


# Training


def write_pretrainer(path, **config):
    """A folder with a small random BERT, and its heads, that learns quickly."""
    preprocessor, encoder = kba.from_pretrained(write_trainable(path / "encoder", **config))
    return (
        kba.save_checkpoint(kba.pretrainer(encoder), path / "heads", preprocessor=preprocessor)
        or path / "heads"
    )


def test_fill_mask_is_trained(tmp_path):
    """Every text says the same of a film: which words that are can be learned; the masks are fixed."""
    texts = [f"the {'very ' * (index % 4)}great film was fun !" for index in range(90)]
    folder = write_pretrainer(tmp_path)
    before = kba.load(folder, task="fill-mask").evaluate(texts)
    assert before["masked"] > 90
    assert before == kba.load(folder, task="fill-mask").evaluate(texts, batch_size=7) | {
        name: pytest.approx(before[name], rel=1e-4) for name in ("loss", "log_likelihood", "perplexity")
    } | {"worst_mistakes": before["worst_mistakes"]}  # fmt: skip
    model = kba.finetune(
        "fill-mask", texts, texts[:20], model=folder, output=tmp_path / "run", epochs=8, learning_rate=2e-2,
        sequence_length=16, batch_size=16,
    )  # fmt: skip
    report = model.evaluate(texts)
    assert report["loss"] < before["loss"] - 1
    assert report["accuracy"] > before["accuracy"]
    assert report["perplexity"] == pytest.approx(np.exp(report["loss"]))
    assert "masked word pieces of 90 texts" in model.task.show(report)
    again, questions = kba.load(tmp_path / "run"), ["the very [MASK] film was [MASK] !", "a [MASK]"]
    assert again.task == model.task
    answers = model(questions, top_k=3)
    close(again(questions, top_k=3)[0]["masks"], answers[0]["masks"])
    assert [[len(guesses) for guesses in row["masks"]] for row in answers] == [[3, 3], [3]]
    logits = again.text_model()(tf.constant(questions))
    assert logits.shape == (2, 2, 61)
    path = kba.export(kba.load(tmp_path / "run", options={"top_k": 3}), tmp_path / "exported")
    assert not_served(path) == []
    found = served(path, text=[*questions, "no mask"])
    assert found["count"] == [2, 1, 0]
    for row, answer in enumerate(answers):
        for mask, guesses in enumerate(answer["masks"]):
            assert found["token"][row][mask] == [guess["token"] for guess in guesses]
            scores = [guess["score"] for guess in guesses]
            np.testing.assert_allclose(found["score"][row][mask], scores, atol=1e-5)
    assert found["token"][1][1] == found["token"][2][0] == [""] * 3
    assert served(path, text=[])["count"] == []


def test_the_loss_of_fill_mask_is_what_numpy_gives(folder):
    model = kba.load(folder, task="fill-mask")
    text = "the film was great and i loved the cast of the plot"
    report = model.evaluate([text])
    features = model.task.encode(model.preprocessor, [text])
    [positions], [wanted] = (features.extras[f"masked_lm_{name}"] for name in ("positions", "ids"))
    words = text.split()
    assert [words[position - 1] for position in positions] == [VOCABULARY[index] for index in wanted]
    for position in positions:
        words[position - 1] = "[MASK]"
    probabilities = expected_of(" ".join(words))
    losses = -np.log(probabilities[np.arange(len(wanted)), wanted])
    assert report["loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert report["masked"] == len(positions) == 2
    assert report["accuracy"] == (probabilities[:, : len(VOCABULARY)].argmax(axis=1) == wanted).mean()


def test_a_training_starts_from_the_head_of_the_checkpoint(tmp_path):
    folder = write_pretrainer(tmp_path)
    for task, head in (("fill-mask", "mlm_dense"), ("next-sentence", "nsp_logits")):
        rows = ["a film"] * 3 if task == "fill-mask" else [(("a", "b"), True)] * 2
        model = kba.finetune(task, rows, model=folder, output=tmp_path / task, epochs=1, learning_rate=1e-9)
        kernel = kba.load(folder, task=task).model.get_layer(head).kernel
        np.testing.assert_allclose(model.model.get_layer(head).kernel, kernel, atol=1e-6)


def test_next_sentence_is_trained(tmp_path):
    """A good film is followed by good words."""
    rows = [((text, "it was"), label == "positive") for text, label in reviews(140)]
    model = kba.finetune(
        "next-sentence", rows, rows[:30], model=write_pretrainer(tmp_path, **NO_DROPOUT),
        output=tmp_path / "run", epochs=12, learning_rate=6e-3, sequence_length=24, batch_size=16,
    )  # fmt: skip
    report = model.evaluate(rows)
    assert report["accuracy"] > 0.9
    assert report["labels"] == ["is_next", "not_next"]
    assert "confusion matrix" in model.task.show(report)
    pairs = [given for given, _ in rows[:5]]
    answers = kba.load(tmp_path / "run")(pairs)
    assert [row["is_next"] for row in answers] == [label for _, label in rows[:5]]
    path = kba.export(tmp_path / "run", tmp_path / "exported")
    assert not_served(path) == []
    found = served(path, text=[first for first, _ in pairs], text_pair=[second for _, second in pairs])
    assert found["is_next"] == [row["is_next"] for row in answers]
    np.testing.assert_allclose(found["score"], [row["score"] for row in answers], atol=1e-5)


def test_reading_of_next_sentences_and_texts(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("text,text_pair,label\na,b,1\nc,d,0\n")
    task = NextSentence()
    assert task.read(path, {}) == [(("a", "b"), True), (("c", "d"), False)]
    path.write_text("text,text_pair,label\na,b,is_next\nc,d,Not_Next\n")
    assert [label for _, label in task.read(path, {})] == [True, False]
    path.write_text("text,text_pair,label\na,b,yes\n")
    with pytest.raises(ValueError, match="pairs.csv, row 1 is .* with 'yes': give two texts, and 1 if"):
        task.read(path, {})
    with pytest.raises(ValueError, match="the data, row 1 is 'a' with 'True': give two texts"):
        task.read([("a", True)], {})
    (tmp_path / "texts.txt").write_text("a film\n\nthe cast\n")
    assert FillMask().read(tmp_path / "texts.txt", {}) == [("a film", None), ("the cast", None)]
    with pytest.raises(ValueError, match="there is no text to learn from"):
        FillMask().read([], {})
    with pytest.raises(ValueError, match="text 1: the text is empty"):
        FillMask().read(["a", " "], {})
    with pytest.raises(ValueError, match=r"text 1 holds \[MASK\]: give the text as it was: 'the \[MASK\]'"):
        FillMask().read(["a", "the [MASK]"], {})
    (tmp_path / "pairs.jsonl").write_text('{"text": "a", "text_pair": "b", "label": false}')
    assert task.read(tmp_path / "pairs.jsonl", {}) == [(("a", "b"), False)]


def test_nothing_to_mask_is_an_error(folder):
    with pytest.raises(ValueError, match="none of the texts has a word that can be masked"):
        kba.load(folder, task="fill-mask").evaluate(["\u200b\u0001"])
    with pytest.raises(ValueError, match="none of the texts has a word that can be masked"):
        kba.finetune("fill-mask", ["\u200b\u0001"], model=folder, output=folder / "run")
    assert not (folder / "run").exists()


def test_options_of_fill_mask(folder):
    with pytest.raises(ValueError, match="top_k=0: give a whole number of at least 1"):
        FillMask(top_k=0)
    with pytest.raises(ValueError, match="targets=5: give a list of words"):
        FillMask(targets=5)
    assert FillMask(targets="good").targets == FillMask(targets=np.array(["good"])).targets == ["good"]
    model = kba.load(folder, task="fill-mask", options={"top_k": 9, "targets": ["good", "bad"]})
    with pytest.raises(ValueError, match="top_k=9: give a whole number from 1 to 2"):
        model.task.serve(model.model, model.preprocessor)


# The command line


@pytest.fixture
def predict(monkeypatch, capsys, tmp_path):
    """Runs `keras-bert predict` in this process: its JSON lines, or the line of its error."""
    monkeypatch.chdir(tmp_path)

    def run(*args, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["keras-bert", "predict", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        if ended.value.code:
            return str(ended.value.code)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_predict_fill_mask(predict, folder, fill_mask, tmp_path):
    options = ("--task", "fill-mask", "--model", folder)
    expected = [{"text": text, "masks": fill_mask(text)[0]} for text in TEXTS]
    rows = predict(*options, *TEXTS)
    assert [row.keys() for row in rows] == [{"text", "masks"}] * 4
    for row, other in zip(rows, expected, strict=True):
        assert row["text"] == other["text"]
        close(row["masks"], other["masks"])
    lines = "".join(f"{text}\n" for text in TEXTS)
    assert predict(*options, stdin=lines.encode()) == rows
    (tmp_path / "texts.txt").write_text(lines)
    assert predict(*options, "--file", "texts.txt") == rows
    [row] = predict(*options, TEXTS[1], "--top-k", 3, "--batch-size", 1)
    assert [len(guesses) for guesses in row["masks"]] == [3, 3]


def test_predict_next_sentence(predict, folder, next_sentence, tmp_path):
    options = ("--task", "next-sentence", "--model", folder)
    [expected] = next_sentence(PAIRS[0])
    first, second = PAIRS[0]
    expected["score"] = pytest.approx(expected["score"], abs=1e-6)
    assert predict(*options, first, second) == [{"text": first, "text_pair": second, **expected}]
    (tmp_path / "pairs.csv").write_text(f"text,text_pair\n{first},{second}\n")
    assert predict(*options, "--file", "pairs.csv") == predict(*options, first, second)
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"a": first, "b": second}))
    columns = ("--text-column", "a", "--pair-column", "b")
    assert predict(*options, "--file", "pairs.jsonl", *columns) == predict(*options, first, second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the run folder of a fine-tuned model, or --task"),
        (["run", "a", "--model", "bert"], "--model bert needs --task"),
        (["--task", "next-sentence", "a", "b", "--top-k", 3], "next-sentence has no option 'top_k'"),
        (["--task", "next-sentence", "a"], "give two texts, 1 are given, or give --file"),
        (["--task", "next-sentence", "a", "b", "c"], "give two texts, 3 are given"),
        (["--task", "next-sentence"], "give two texts, 0 are given"),
        (["--task", "next-sentence", "a", "b", "--file", "x.csv"], "give texts or --file, not both"),
        (["--task", "next-sentence", "--file", "none.csv"], "there is no file none.csv"),
        (["--task", "next-sentence", "--file", "x.txt"], "x.txt: the name must end in .csv"),
        (["--task", "next-sentence", "--file", "empty.csv"], "empty.csv is empty: give at least one pair"),
        (["--task", "fill-mask"], "standard input is empty"),
        (["--task", "fill-mask", "FOLDER", "a [MASK]"], "is a folder: with --task give a model as --model"),
        (["--task", "fill", "a", "--model", "FOLDER"], "there is no task 'fill': one of"),
        (["--task", "fill-mask", "a film", "--model", "FOLDER"], r"text 0 has no \[MASK\]"),
        (["--task", "fill-mask", "[MASK]", "--model", "FOLDER", "--top-k", 0], "top_k=0"),
    ],
)
def test_mistakes_of_predict(predict, folder, tmp_path, arguments, message):
    (tmp_path / "empty.csv").write_text("text,text_pair\n")
    found = predict(*[folder if argument == "FOLDER" else argument for argument in arguments])
    assert isinstance(found, str), found
    assert "\n" not in found
    assert re.search(message, found), found
