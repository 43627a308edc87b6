import json
import math
import os
import shutil
import signal

import keras
import numpy as np
import pytest
from conftest import VOCABULARY, WORDS, kill_after, run_python, write_pretrained
from oracle import random_tensors

import keras_bert_app as kba
from keras_bert_app import optimization, pretraining_data, pretraining_loop, progress
from keras_bert_app.data.shards import Shards
from keras_bert_app.feeding import Feed
from keras_bert_app.preprocessing.masking import MaskedLMMasker

SIZES = {
    "vocab_size": len(VOCABULARY), "hidden_size": 10, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 17, "max_position_embeddings": 32,
}  # fmt: skip
FAST = {"stages": [(24, 7, 4)], "learning_rate": 1e-2, "validate_every": 3}


def write_corpus(folder, documents=9, sentences=6, seed=1):
    """`corpus.txt`, documents of sentences of random words, and `vocab.txt`."""
    random = np.random.default_rng(seed)
    words = [word for word in WORDS if word.isalpha() and len(word) > 1]
    texts = [
        "\n".join(" ".join(random.choice(words, 5)) + "." for _ in range(sentences)) for _ in range(documents)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "corpus.txt").write_text("\n\n".join(texts) + "\n")
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_corpus(tmp_path / "work")


@pytest.fixture
def examples(folder):
    """Path of prepared examples, of which some are for validation."""
    kba.prepare_examples(
        folder / "corpus.txt", folder / "vocab.txt", folder / "examples",
        sequence_length=24, duplicates=3, validation_share=0.3,
    )  # fmt: skip
    return folder / "examples"


def pretrain(folder, data=None, output="bert", **options):
    options = {"model": kba.BertConfig(**SIZES), "vocabulary": folder / "vocab.txt", **FAST, **options}
    return kba.pretrain(folder / "corpus.txt" if data is None else data, output=folder / output, **options)


def weights(folder):
    model = kba.from_pretrained(folder, head="pretrainer")[1]
    return [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in model.weights]


def assert_same(one, other, **tolerances):
    for ours, theirs in zip(weights(one), weights(other), strict=True):
        np.testing.assert_allclose(ours, theirs, **(tolerances or {"rtol": 0, "atol": 0}))


def read(path):
    return json.loads(path.read_text())


# The result


@pytest.mark.slow
def test_memorizes_a_small_corpus(tmp_path):
    folder = write_corpus(tmp_path / "work", documents=7)
    sizes = {**SIZES, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}
    pretrain(
        folder, model=kba.BertConfig(**sizes), stages=[(24, 700, 12)], learning_rate=3e-3, warmup=0.1,
        dropout=0.0, validate_every=700, preparation={"validation_share": 0.0},
    )  # fmt: skip
    preprocessor, model = kba.from_pretrained(folder / "bert", head="pretrainer")
    prepared = kba.prepare_examples(
        folder / "corpus.txt", folder / "vocab.txt", folder / "again", sequence_length=24, validation_share=0
    )
    assert prepared["train_examples"] > 9
    assert preprocessor.tokenizer.vocabulary == tuple(VOCABULARY)
    evaluator = pretraining_loop.compile_pretrainer(model)
    shards, masker = Shards(folder / "again"), MaskedLMMasker(VOCABULARY)
    (batch,) = shards.batches("train", shards.num_examples("train"))
    masked = (pretraining_loop.masked_batch(masker, batch, 5, step) for step in range(30))
    data = Feed(masked).data(pretraining_loop.specs(evaluator))
    found = pretraining_loop.readable(evaluator.evaluate(data, steps=30, return_dict=True, verbose=0))
    assert found["mlm_accuracy"] > 0.95, found
    assert found["nsp_accuracy"] > 0.95, found


def test_what_the_output_holds(folder, examples):
    assert pretrain(folder, examples, output="bert") == folder / "bert"
    names = {path.name for path in (folder / "bert").iterdir()}
    assert names == {
        "config.json", "curves.png", "history.json", "model.safetensors", "pretraining.json",
        "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    }  # fmt: skip
    assert not (folder / "bert.unfinished").exists()
    history = read(folder / "bert" / "history.json")
    assert [row["step"] for row in history] == [3, 6, 7]
    assert {
        "length", "loss", "mlm_loss", "mlm_accuracy", "mlm_perplexity", "nsp_loss", "nsp_accuracy",
        "validation_loss", "validation_mlm_perplexity", "validation_nsp_accuracy", "tokens_per_second",
    } <= set(history[0])  # fmt: skip
    for row in history:
        assert row["validation_mlm_perplexity"] == pytest.approx(math.exp(row["validation_mlm_loss"]))
        assert row["loss"] == pytest.approx(row["mlm_loss"] + row["nsp_loss"], rel=1e-4)
    details = read(folder / "bert" / "pretraining.json")
    assert details["recipe"]["stages"] == [[24, 7, 4]]
    (manifest,) = details["examples"]["24"]
    assert manifest["documents"] == 9
    size = (folder / "corpus.txt").stat().st_size
    assert manifest["sources"] == {"files": 1, "bytes": size, "names": ["corpus.txt"]}
    assert read(folder / "bert" / "tokenizer_config.json")["model_max_length"] == 32
    preprocessor, encoder = kba.from_pretrained(folder / "bert")
    assert preprocessor.sequence_length == 32
    assert encoder(preprocessor(["a great film"]))["pooled_output"].shape == (1, 10)
    assert kba.load(folder / "bert", task="fill-mask")("the film was [MASK]", top_k=3)


@pytest.mark.slow
def test_texts_and_prepared_examples_give_the_same(folder):
    options = {"validation_share": 0.3, "duplicates": 2}
    pretrain(folder, output="one", preparation=options)
    kba.prepare_examples(
        folder / "corpus.txt", folder / "vocab.txt", folder / "examples", sequence_length=24, **options
    )
    pretrain(folder, folder / "examples", output="other")
    assert_same(folder / "one", folder / "other")


def test_stages_of_length(folder):
    pretrain(folder, stages=[(12, 5, 4), (24, 3, 2)], validate_every=2, preparation={"validation_share": 0})
    history = read(folder / "bert" / "history.json")
    assert [(row["length"], row["step"]) for row in history] == [(12, 2), (12, 4), (12, 5), (24, 7), (24, 8)]
    assert not any("validation_loss" in row for row in history)


def positions(folder):
    return np.array(kba.from_pretrained(folder)[1].get_layer("position_embeddings").embeddings)


def test_positions_of_longer_rows_start_as_copies(folder):
    """Those that no stage has trained are copies too; those of a checkpoint stay."""
    still = {"learning_rate": 1e-9, "preparation": {"validation_share": 0}}
    pretrain(folder, stages=[(12, 2, 4), (24, 1, 4)], **still)
    found = positions(folder / "bert")
    np.testing.assert_allclose(found, np.resize(found[:12], (32, 10)), atol=1e-6)
    assert np.abs(found[:12] - found[1:13]).max() > 1e-3
    write_pretrained(folder / "start", random_tensors(hidden=10, layers=3, inner=37))
    pretrain(
        folder,
        output="again",
        model=folder / "start",
        vocabulary=None,
        stages=[(12, 1, 4), (24, 1, 4)],
        **still,
    )
    np.testing.assert_allclose(positions(folder / "again"), positions(folder / "start"), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, 4])  # the last of the first stage, and the first of the second
def test_stopped_between_stages(folder, monkeypatch, steps):
    options = {
        "stages": [(12, 3, 4), (24, 3, 4)], "validate_every": 9, "preparation": {"validation_share": 0},
    }  # fmt: skip
    pretrain(folder, output="straight", **options)
    kill_after(monkeypatch, steps, signal.SIGTERM)
    with pytest.raises(SystemExit):
        pretrain(folder, **options)
    pretrain(folder, **options)
    assert_same(folder / "bert", folder / "straight")


def test_what_next_sentence_accuracy_is_by_chance(folder, examples):
    pretrain(folder, examples)
    batches = Shards(examples).batches("validation", 99)
    labels = np.concatenate([batch["next_sentence_labels"] for batch in batches])
    for row in read(folder / "bert" / "history.json"):
        assert row["validation_nsp_majority"] == pytest.approx(max(labels.mean(), 1 - labels.mean()))


def test_without_pairs(folder):
    pretrain(folder, preparation={"objective": "masked_lm"})
    assert kba.open_checkpoint(folder / "bert").heads == ("masked_lm",)
    assert "nsp_loss" not in read(folder / "bert" / "history.json")[0]


@pytest.mark.slow
def test_dropout_while_pretraining_is_not_saved(folder, examples):
    pretrain(folder, examples, output="one", dropout=0.0)
    pretrain(folder, examples, output="other")
    assert kba.open_checkpoint(folder / "one").config.hidden_dropout_prob == 0.1
    assert not np.array_equal(weights(folder / "one")[0], weights(folder / "other")[0])


@pytest.mark.slow
def test_goes_on_from_a_checkpoint(folder, capsys):
    write_pretrained(folder / "start", random_tensors(hidden=10, layers=3, inner=37))
    steps = {"stages": [(24, 1, 4)], "model": folder / "start", "vocabulary": None, "learning_rate": 1e-9}
    pretrain(folder, **steps)
    start, end = (kba.from_pretrained(folder / name)[1].weights for name in ("start", "bert"))
    for ours, theirs in zip(start, end, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    said = capsys.readouterr().err
    assert said.count("the masked_lm head starts from random weights") == 1
    assert said.count("the next_sentence head starts from random weights") == 1
    heads = weights(folder / "bert")
    pretrain(folder, output="again", **{**steps, "model": folder / "bert"})  # with the heads
    for ours, theirs in zip(heads, weights(folder / "again"), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    pretrain(
        folder, output="words", **{**steps, "model": folder / "bert"}, preparation={"objective": "masked_lm"}
    )
    assert "the next_sentence head is left out, the examples are not for it" in capsys.readouterr().err
    assert kba.open_checkpoint(folder / "words").heads == ("masked_lm",)
    words, _ = (kba.from_pretrained(folder / name, head="pretrainer")[1] for name in ("words", "bert"))
    by_path = {variable.path: np.array(variable) for variable in _.weights}
    for variable in words.weights:
        np.testing.assert_allclose(by_path[variable.path], variable, atol=1e-6)


# Losses and gradients


def test_losses_and_metrics_are_those_of_numpy(examples):
    keras.utils.set_random_seed(3)
    model = kba.pretrainer(kba.bert_encoder(kba.BertConfig(**SIZES)))
    for variable in model.weights:
        variable.assign(keras.random.normal(variable.shape, stddev=0.3, seed=variable.path.count("e")))
    masker, shards = MaskedLMMasker(VOCABULARY), Shards(examples)
    found = pretraining_loop.evaluate_examples(
        pretraining_loop.compile_pretrainer(model), masker, shards, batch_size=5
    )
    entropy, hits, weight, pairs = 0.0, 0.0, 0.0, []
    for step, batch in enumerate(shards.batches("validation", 5, multiple=8)):
        inputs, targets, weights = pretraining_loop.masked_batch(
            masker, batch, pretraining_loop.VALIDATION_SEED, step
        )
        outputs = {name: np.array(value, "float64") for name, value in model.predict_on_batch(inputs).items()}
        for name, logits in outputs.items():
            logs = logits - logits.max(-1, keepdims=True)
            logs -= np.log(np.exp(logs).sum(-1, keepdims=True))
            picked = np.take_along_axis(logs, targets[name][..., None], -1)[..., 0]
            right = logits.argmax(-1) == targets[name]
            if name == "mlm_logits":
                entropy -= (picked * weights[name]).sum()
                hits += (right * weights[name]).sum()
                weight += weights[name].sum()
            else:
                pairs += zip(-picked, right, strict=True)
    assert weight > 9
    assert found["mlm_loss"] == pytest.approx(entropy / weight, rel=1e-5)
    assert found["mlm_perplexity"] == pytest.approx(math.exp(entropy / weight), rel=1e-4)
    assert found["mlm_accuracy"] == pytest.approx(hits / weight, rel=1e-6)
    assert found["nsp_loss"] == pytest.approx(np.mean([loss for loss, _ in pairs]), rel=1e-5)
    assert found["nsp_accuracy"] == pytest.approx(np.mean([right for _, right in pairs]), rel=1e-6)


def test_the_gradient_reaches_the_word_embeddings_from_both_sides():
    import tensorflow as tf

    keras.utils.set_random_seed(3)
    config = kba.BertConfig(**{**SIZES, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    model = kba.pretrainer(kba.bert_encoder(config))
    ids = tf.constant([[2, 7, 8, 9, 3]])
    inputs = {
        "input_word_ids": ids, "input_mask": tf.ones_like(ids), "input_type_ids": tf.zeros_like(ids),
        "masked_lm_positions": tf.constant([[2]]),
    }  # fmt: skip
    words = next(v for v in model.trainable_variables if v.path == "word_embeddings/embeddings")
    with tf.GradientTape() as tape:
        logits = model(inputs, training=False)["mlm_logits"]
        loss = -tf.nn.log_softmax(logits)[0, 0, 11]
    gradient = np.array(tf.convert_to_tensor(tape.gradient(loss, words.value)), "float64")  # (words, hidden)
    probability = np.array(tf.nn.softmax(logits))[0, 0]
    hidden = gradient[20] / probability[20]  # what the logits are the product with
    through_logits = (probability - np.eye(len(VOCABULARY))[11])[:, None] * hidden
    through_encoder = np.abs(gradient - through_logits).max(axis=1)
    assert np.abs(through_logits).max() > 1e-2
    assert set(np.flatnonzero(through_encoder > 1e-5)) == {2, 7, 8, 9, 3}  # those of the text


def test_gradient_accumulation_is_a_larger_batch():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(8, 3)).astype("float32"), random.normal(size=(8, 1)).astype("float32")
    results = []
    for accumulation in (1, 2):
        keras.utils.set_random_seed(5)
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile(optimization.adamw(0.1, 6, gradient_accumulation=accumulation), "mse")
        model.fit(
            np.tile(x, (6, 1)), np.tile(y, (6, 1)), batch_size=8 // accumulation, shuffle=False, verbose=0
        )
        results.append([np.array(variable) for variable in model.weights])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_gradient_accumulation_counts_steps(folder, examples):
    pretrain(folder, examples, gradient_accumulation=2)
    assert [row["step"] for row in read(folder / "bert" / "history.json")] == [3, 6, 7]


# Stopped and started again

KILLED = """
import sys
from pathlib import Path
import test_pretraining
folder = Path(sys.argv[1])
test_pretraining.pretrain(folder, folder / "examples", checkpoint_minutes=0)
"""


@pytest.mark.parametrize(
    ("steps", "number"),
    [pytest.param(1, signal.SIGTERM, marks=pytest.mark.slow), (2, signal.SIGINT)],  # 3: a segment ends
)
@pytest.mark.slow
def test_asked_to_end_it_saves_and_goes_on(folder, examples, monkeypatch, capsys, steps, number):
    pretrain(folder, examples, output="straight")
    with monkeypatch.context() as patch:
        kill_after(patch, steps, number)
        with pytest.raises(SystemExit) as stopped:
            pretrain(folder, examples)
    assert stopped.value.code == 128 + number
    assert not (folder / "bert").exists()
    with pytest.raises(ValueError, match="learning_rate=0.01.*Give the same arguments"):
        pretrain(folder, examples, learning_rate=1e-3)
    pretrain(folder, examples)
    assert f"going on after batch {steps + 1}" in capsys.readouterr().err.replace("\n", " ")
    assert_same(folder / "bert", folder / "straight")
    histories = [read(folder / name / "history.json") for name in ("bert", "straight")]
    for ours, theirs in zip(*histories, strict=True):
        for name in ("loss", "mlm_accuracy", "nsp_accuracy", "validation_loss"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5), name


def test_asked_to_end_in_the_last_step_it_is_done(folder, examples, monkeypatch):
    kill_after(monkeypatch, 7, signal.SIGTERM)
    pretrain(folder, examples)
    assert [row["step"] for row in read(folder / "bert" / "history.json")] == [3, 6, 7]


def run_and_kill(folder, seconds, number=signal.SIGKILL):
    """Starts a run in another process and sends it a signal some time after its first state is there."""
    import subprocess
    import sys
    import time

    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], cwd=os.path.dirname(__file__),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    state = folder / "bert.unfinished" / "state.npz"
    before = state.stat().st_mtime_ns if state.exists() else None
    while process.poll() is None:
        if state.exists() and state.stat().st_mtime_ns != before:
            time.sleep(seconds)
            break
        time.sleep(0.001)
    process.send_signal(number)
    try:
        return process.wait(timeout=100)
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 5])
def test_killed_at_random_moments(folder, examples, monkeypatch, times):
    monkeypatch.setitem(FAST, "stages", [(24, 7, 4)])
    pretrain(folder, examples, output="straight")
    random = np.random.default_rng(times)
    codes = [run_and_kill(folder, random.uniform(0, 0.1)) for _ in range(times)]
    assert codes[0] == -signal.SIGKILL
    if not (folder / "bert").exists():
        pretrain(folder, examples)
    assert_same(folder / "bert", folder / "straight")


@pytest.mark.slow
def test_a_process_that_is_asked_to_end_does_so(folder, examples):
    """Whatever the thread that makes its batches does at that moment."""
    codes = [run_and_kill(folder, seconds, signal.SIGTERM) for seconds in (0.0, 0.03)]
    assert codes[0] == 143
    assert codes[1] in (143, 0)


JAX = """
import sys
sys.modules["tensorflow"] = None
from pathlib import Path
import json
import test_pretraining
folder = Path(sys.argv[1])
test_pretraining.pretrain(folder, folder / "examples", output="bert", vocabulary=None)
print([row["validation_mlm_loss"] for row in json.loads((folder / "bert" / "history.json").read_text())])
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_need_no_tensorflow(folder, examples, backend):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    done = run_python(JAX, folder, KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    assert kba.from_pretrained(folder / "bert", head="pretrainer")
    assert len(json.loads(done.stdout)) == 3


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": []}, "stages is empty: give at least one"),
        ({"stages": [(24,)]}, "is no .sequence_length, steps."),
        ({"stages": [(24, 5, 4, 1)]}, "is no .sequence_length, steps."),
        ({"stages": [(24, 0)]}, "give whole numbers"),
        ({"stages": ["24:5"]}, "is no .sequence_length, steps."),
        ({"stages": [(64, 5)]}, "sequence_length=64, this model takes at most 32"),
        ({"seed": -1}, "seed=-1: give a whole number from 0"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0: give a number of at least 0"),
        ({"checkpoint_minutes": -5}, "checkpoint_minutes=-5: give a number of at least 0"),
        ({"gradient_accumulation": 0}, "gradient_accumulation=0: give a whole number"),
        ({"validate_every": 1.5}, "validate_every=1.5: give a whole number"),
        ({"learning_rate": 0}, "learning_rate=0: give a number above 0"),
        ({"warmup": 1}, "warmup=1: give a share"),
        ({"dropout": -0.1}, "dropout=-0.1: give a share"),
        ({"precision": "float16"}, "precision='float16': one of float32"),
        ({"masking": {"mask_selection_rate": 2}}, "mask_selection_rate=2"),
        ({"masking": {"seed": 2}}, "masking: seed cannot be given: it is that of the run"),
        ({"masking": {"vocabulary": "vocab.txt"}}, "masking: vocabulary cannot be given"),
        ({"preparation": {"sequence_length": 5}}, "preparation: sequence_length cannot be given"),
        ({"vocabulary": None}, "a config has no vocabulary: give one"),
        ({"stages": [(24, 5, 400)]}, "do not fill one batch of 400: choose a smaller batch size"),
        (
            {"model": kba.BertConfig(**{**SIZES, "vocab_size": 20})},
            "54 tokens, the model vocab_size=20",
        ),
    ],
)
def test_bad_arguments(folder, options, message):
    with pytest.raises(ValueError, match=message):
        pretrain(folder, **options)
    assert not (folder / "bert").exists()
    assert ("batch of 400" in message) == (folder / "bert.unfinished").exists()  # the others come before work


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": [(16, 5, 4)]}, "no examples of sequence_length=16, but of 24: prepare some"),
        ({"preparation": {"duplicates": 2}}, "preparation is for texts"),
    ],
)
def test_bad_arguments_for_prepared_examples(folder, examples, options, message):
    with pytest.raises(ValueError, match=message):
        pretrain(folder, examples, **options)


def test_examples_that_do_not_fit(folder, examples):
    with pytest.raises(ValueError, match="corpus.txt holds no prepared examples.*not both"):
        pretrain(folder, [examples, folder / "corpus.txt"])
    other = [*VOCABULARY[:-1], "zebra"]
    (folder / "other.txt").write_text("".join(f"{token}\n" for token in other))
    with pytest.raises(ValueError, match="were prepared with another vocabulary than the model's"):
        pretrain(folder, examples, vocabulary=folder / "other.txt")
    cased = kba.BertTokenizer(folder / "vocab.txt", lowercase=False)
    with pytest.raises(ValueError, match="'lowercase': True.*the model has .*'lowercase': False"):
        pretrain(folder, examples, vocabulary=cased)
    kba.prepare_examples(
        folder / "corpus.txt", folder / "other.txt", folder / "others", sequence_length=16, duplicates=3
    )
    with pytest.raises(ValueError, match="different objectives, vocabularies or casing: prepare them alike"):
        pretrain(folder, [examples, folder / "others"], stages=[(24, 3, 4), (16, 3, 4)])
    for shard in examples.glob("train-*"):
        data = bytearray(shard.read_bytes())
        data[99] ^= 1
        shard.write_bytes(data)
    with pytest.raises(ValueError, match="^[^\n]*tfrecord is damaged, its crc32 has changed"):
        pretrain(folder, examples)
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(ValueError, match="was cut short: prepare the examples again"):
        pretrain(folder, examples)


def test_texts_that_changed_while_a_run_was_unfinished(folder, monkeypatch):
    with monkeypatch.context() as patch:
        kill_after(patch, 1, signal.SIGTERM)
        with pytest.raises(SystemExit):
            pretrain(folder)
    cased = kba.BertTokenizer(folder / "vocab.txt", lowercase=False)
    for changed in (
        {"preparation": {"seed": 3}},
        {"data": [folder / "corpus.txt", folder / "vocab.txt"]},
        {"vocabulary": cased},
    ):
        with pytest.raises(
            ValueError, match="unfinished run with other texts, another tokenizer or preparation, see"
        ):
            pretrain(folder, **changed)


def test_a_preparation_that_fails_changes_nothing(folder, examples, monkeypatch):
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(ValueError, match="one is for training"):
        pretrain(folder, preparation={"document": "file"})
    assert {path.name for path in folder.iterdir()} == before
    with monkeypatch.context() as patch:
        kill_after(patch, 1, signal.SIGTERM)
        with pytest.raises(SystemExit):
            pretrain(folder, examples)
    with pytest.raises(ValueError, match="unfinished run on examples that were prepared before: give these"):
        pretrain(folder)


def test_killed_while_it_prepared_it_may_begin_in_another_way(folder, monkeypatch):
    unfinished = folder / "bert.unfinished"
    arguments = folder / "corpus.txt", kba.BertTokenizer(folder / "vocab.txt"), [16], unfinished

    def killed(*args, **options):
        shutil.copytree(unfinished, folder / "left")  # what there is if nothing is tidied up
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretraining_data, "prepare_examples", killed)
        with pytest.raises(KeyboardInterrupt):
            pretraining_data.prepare_all(*arguments, {})
    assert not unfinished.exists()
    (folder / "left").rename(unfinished)
    assert read(unfinished / "preparation.json")["preparation"] == {}
    (prepared,) = pretraining_data.prepare_all(*arguments, {"duplicates": 3})
    assert read(prepared / "manifest.json")["duplicates"] == 3
    assert read(unfinished / "preparation.json")["preparation"] == {"duplicates": 3}


def test_folders_of_examples(folder, examples):
    with pytest.raises(ValueError, match="is no folder of prepared examples, but .*examples is: give"):
        pretrain(folder, folder)
    pretrain(folder, str(folder / "exam*"))


def test_missing_and_existing_files(folder, examples):
    with pytest.raises(FileNotFoundError, match="there is no file .*nothing.txt"):
        pretrain(folder, folder / "nothing.txt")
    with pytest.raises(FileNotFoundError, match="there is no config .*none.json: check the path"):
        pretrain(folder, model=folder / "none.json")
    with pytest.raises(ValueError, match="vocabulary is for a config: .* has its own"):
        pretrain(folder, examples, model=write_pretrained(folder / "start"))
    (folder / "bert").mkdir()
    with pytest.raises(FileExistsError, match="exists: choose another output folder"):
        pretrain(folder, examples)


def test_a_loss_that_is_no_number(folder, examples, monkeypatch):
    monkeypatch.setattr(progress, "CHECK_EVERY", 1)
    with pytest.raises(FloatingPointError, match="the training collapsed"), np.errstate(all="ignore"):
        pretrain(folder, examples, learning_rate=1e30, warmup=0.0)
    assert not (folder / "bert.unfinished" / "state.npz").exists()


def test_tensorboard(folder, examples):
    pytest.importorskip("tensorboard", reason="pip install '.[tensorboard]'")
    pretrain(folder, examples, tensorboard=True)
    assert list((folder / "bert" / "tensorboard").glob("events.out.tfevents.*"))


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="traces are TensorFlow's")
def test_profile(folder, examples):
    pretrain(folder, examples, profile=True)
    assert len(list((folder / "bert" / "tensorboard").glob("plugins/profile/*/*.xplane.pb"))) == 1
