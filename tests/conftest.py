"""Data that the tests make, and the data outside the project that some of them look for."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
from oracle import random_tensors

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("KBA_DATA", ROOT.parent / "shared" / "data"))

WORDS = [
    "a",
    "the",
    "film",
    "was",
    "great",
    "good",
    "fun",
    "loved",
    "moving",
    "brilliant",
    "bad",
    "dull",
    "boring",
    "waste",
    "terrible",
    "poor",
    "very",
    "not",
    "and",
    "i",
    "it",
    "of",
    "plot",
    "cast",
    "acting",
    "##s",
    "##ed",
    "##ing",
    "!",
    ".",
    ",",
    "?",
    "'",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "o",
    "p",
    "q",
    "r",
]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
CONFIG = {
    "model_type": "bert",
    "vocab_size": 61,
    "hidden_size": 10,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "max_position_embeddings": 32,
}


def data_file(name):
    """A file of the shared data, or a skipped test."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in {DATA}: set KBA_DATA to the folder of the shared data")
    return path


def run_python(code, *args, **environment):
    """Runs `code` in a fresh process; returns the finished process, whatever its exit code."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        env={**os.environ, **environment},
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        timeout=300,
    )


def write_pretrained(folder, tensors=None, **changes):
    """A Hugging Face folder with a small random BERT."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "strip_accents": null}')
    save_file(random_tensors() if tensors is None else tensors, folder / "model.safetensors")
    return folder


# For a small BERT that shall learn with any seed.
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def write_trainable(folder, positions=32, layers=1, **config):
    """A Hugging Face folder with a small random BERT that learns quickly."""
    sizes = {"hidden_size": 16, "num_hidden_layers": layers, "intermediate_size": 32, **config}
    tensors = random_tensors(hidden=16, layers=layers, inner=32, positions=positions)
    return write_pretrained(folder, tensors, **sizes, max_position_embeddings=positions)


def checkpoint_with(labels=None, problem_type=None):
    """A checkpoint of which only the labels count."""
    from types import SimpleNamespace

    where = SimpleNamespace(path=Path("x"))
    return SimpleNamespace(labels=labels, problem_type=problem_type, tensors=where)


def reviews(number):
    """Labelled texts that a small model learns in a few steps, none twice."""
    good, bad = ["great", "good", "fun", "loved", "moving"], ["bad", "dull", "boring", "terrible", "poor"]
    rows = []
    for index in range(number):
        word = (good, bad)[index % 2][index // 2 % 5]
        text = f"the {'very ' * (index % 7)}{word} film{'s' * (index % 3)} {'!' * (index // 70)}"
        rows.append((text, ("positive", "negative")[index % 2]))
    return rows


def served(path, signature="serving_default", **texts):
    """What a SavedModel answers, in this process: dict of lists and, of strings, of lists of str."""
    import numpy as np
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures[signature]
    decode = np.vectorize(bytes.decode, otypes="O")
    found = serve(**{name: tf.constant(values, tf.string) for name, values in texts.items()})
    return {
        name: (decode(tensor.numpy()) if tensor.dtype == tf.string else tensor.numpy()).tolist()
        for name, tensor in found.items()
    }


def not_served(path):
    """The operations in a SavedModel that TensorFlow Serving cannot run."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    from keras_bert_app import serving_ops

    (graph,) = SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    return serving_ops.not_served(graph.graph_def)


def kill_after(monkeypatch, steps, number):
    """Sends the own process a signal after some steps."""
    from keras_bert_app import checkpointing

    original = checkpointing.SaveState.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        original(self, batch, logs)
        if self.step == steps:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(checkpointing.SaveState, "on_train_batch_end", on_train_batch_end)


@pytest.fixture
def keras_bert(monkeypatch, capsys, tmp_path):
    """Runs the command line in this process: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    from keras_bert_app import cli

    def run(*args, stdin=b""):
        monkeypatch.setattr(sys, "argv", ["keras-bert", *map(str, args)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        if isinstance(ended.value.code, str):  # sys.exit(text) prints it and exits with 1
            return 1, out, err + ended.value.code
        return ended.value.code, out, err

    return run


@pytest.fixture
def pretrained(tmp_path):
    """Path of a small random BERT in Hugging Face's format."""
    return write_pretrained(tmp_path / "pretrained")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """Path of a small fine-tuned classifier that knows good films from bad ones."""
    import keras_bert_app as kba

    folder = tmp_path_factory.mktemp("session")
    model = write_trainable(folder / "pretrained")
    kba.finetune(
        "text-classification", reviews(140), reviews(70), model=model, output=folder / "run",
        epochs=6, learning_rate=1e-2, sequence_length=16, batch_size=16, seed=1,
    )  # fmt: skip
    return folder / "run"
