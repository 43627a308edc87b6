import itertools
import json
import resource
import subprocess
import sys

import pytest
from conftest import reviews, write_trainable

import keras_bert_app as kba
from keras_bert_app import cli


@pytest.fixture
def files(tmp_path):
    """A pretrained model and CSV files for training and testing in the current folder."""
    write_trainable(tmp_path / "bert")
    for name, rows in (("train", reviews(140)), ("test", reviews(70))):
        lines = "".join(f"{text},{label}\n" for text, label in rows)
        (tmp_path / f"{name}.csv").write_text("review,stars\n" + lines)
    return tmp_path


COLUMNS = ("--text-column", "review", "--label-column", "stars")
FINETUNE = (
    "finetune", "text-classification", "--train", "train.csv", "--validation", "test.csv", "--model", "bert",
    "--output", "run", *COLUMNS, "--sequence-length", 16, "--learning-rate", 0.01, "--batch-size", 16,
    "--epochs", 8, "--precision", "float32",
)  # fmt: skip


def test_from_a_file_to_a_served_model(keras_bert, files):
    code, out, err = keras_bert(*FINETUNE)
    assert (code, out) == (0, "run\n"), err
    assert "epoch 8/8" in err

    code, out, _ = keras_bert("evaluate", "run", "--data", "test.csv", *COLUMNS)
    assert code == 0
    assert "confusion matrix" in out
    code, out, _ = keras_bert("evaluate", "run", "--data", "test.csv", "--json", *COLUMNS)
    assert json.loads(out)["accuracy"] > 0.9

    code, out, _ = keras_bert("predict", "run", "the great film", "the dull film")
    answers = [json.loads(line) for line in out.splitlines()]
    assert [(row["text"], row["label"]) for row in answers] == [
        ("the great film", "positive"), ("the dull film", "negative"),
    ]  # fmt: skip
    assert keras_bert("predict", "run", stdin=b"the great film\nthe dull film\n")[1] == out
    (files / "texts.txt").write_text("the great film\nthe dull film\n")
    assert keras_bert("predict", "run", "--file", "texts.txt")[1] == out

    assert keras_bert("export", "run", "--output", "saved_models/reviews")[1] == "saved_models/reviews/1\n"
    assert (files / "saved_models/reviews/1/saved_model.pb").exists()

    code, _, err = keras_bert(*FINETUNE)
    assert code == 1
    assert err == "keras-bert: run exists: choose another output folder, or remove it"


@pytest.mark.filterwarnings("ignore:the model gives all")
def test_pairs_with_several_labels(keras_bert, files):
    rows = [(f"film {text}", text, f"{label}+seen") for text, label in reviews(70)]
    (files / "pairs.csv").write_text("a,b,c\n" + "".join(",".join(row) + "\n" for row in rows))
    columns = ("--text-column", "a", "--pair-column", "b", "--label-column", "c")
    code, out, err = keras_bert(
        "finetune", "text-classification", "--train", "pairs.csv", "--model", "bert", "--output", "run",
        *columns, "--option", "label_separator=+", "--option", "threshold=0.3", "--epochs", 1,
        "--learning-rate", 0.02, "--sequence-length", 32,
    )  # fmt: skip
    assert (code, out) == (0, "run\n"), err
    code, out, err = keras_bert("evaluate", "run", "--data", "pairs.csv", *columns)
    assert code == 0, err
    assert "micro F1" in out
    assert "labels from probability 0.3 on" in out
    code, out, err = keras_bert("predict", "run", "a film", "great")
    assert code == 0, err
    (answer,) = map(json.loads, out.splitlines())
    assert (answer["text"], answer["text_pair"]) == ("a film", "great")
    assert set(answer["scores"]) == {"negative", "positive", "seen"}
    one_line(*keras_bert("predict", "run", "a film")[::2], "give two texts, 1 are given")
    for option, message in (("stride", "--option stride has no value"), ("strides=3", "no option 'strides'")):
        code, _, err = keras_bert(*FINETUNE, "--option", option)
        one_line(code, err, message)


def one_line(code, err, *parts):
    """What every mistake of a user ends with: one line that names the value, exit code not 0."""
    assert code == 1
    assert err.startswith("keras-bert: ")
    assert "\n" not in err.strip()
    for part in parts:
        assert part in err


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"--train": "none.csv"}, ["there is no file none.csv"]),
        ({"--train": "empty.csv"}, ["empty.csv is empty"]),
        ({"--train": "latin.csv"}, ["latin.csv is not UTF-8", "iconv"]),
        ({"--train": "one.csv"}, ["all labels are 'good'"]),
        ({"--train": "huge.csv"}, ["row 1", "1,000,000 bytes"]),
        ({"--train": "blank.csv"}, ["row 1", "the text is empty"]),
        ({"--text-column": "text"}, ["train.csv, row 1", "'text'", "--text-column"]),
        ({"--model": "none"}, ["there is no folder 'none'"]),
        ({"--model": "."}, ["config.json"]),
        ({"--model": "cut"}, ["cut/model.safetensors is damaged or cut short"]),
        ({"--sequence-length": 33}, ["sequence_length=33", "at most 32"]),
        ({"--sequence-length": 2}, ["sequence_length=2", "at least 3"]),
        ({"--epochs": 0}, ["epochs=0"]),
        ({"--precision": "half"}, ["precision='half'", "mixed_bfloat16"]),
        ({"--output": "train.csv/run"}, ["cannot write", "train.csv/run"]),
    ],
)
def test_mistakes_of_finetune(keras_bert, files, changes, parts):
    (files / "empty.csv").write_text("review,stars\n")
    (files / "latin.csv").write_bytes("review,stars\nZwölf,good\n".encode("latin1"))
    (files / "one.csv").write_text("review,stars\na film,good\nfilms,good\n")
    (files / "huge.csv").write_text("review,stars\n" + "x" * 1_000_000 + ",good\n")
    (files / "blank.csv").write_text("review,stars\n ,good\n")
    cut = write_trainable(files / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-9])
    arguments = list(FINETUNE)
    for name, value in changes.items():
        arguments[arguments.index(name) + 1] = value
    before = sorted(files.rglob("*"))
    code, _, err = keras_bert(*arguments)
    one_line(code, err, *parts)
    assert sorted(files.rglob("*")) == before


def test_mistakes_of_the_others(keras_bert, files, run_folder):
    code, _, err = keras_bert("finetune", "summarization", *FINETUNE[2:])
    one_line(code, err, "there is no task 'summarization'")
    for command in (("evaluate", "bert", "--data", "test.csv"), ("predict", "bert", "x"),
                    ("export", "bert", "--output", "x")):  # fmt: skip
        code, _, err = keras_bert(*command)
        one_line(code, err, "is no fine-tuned model: its heads are none")
    (files / "unknown.csv").write_text("text,label\na film,positive\nfilms,mixed\n")
    code, _, err = keras_bert("evaluate", run_folder, "--data", "unknown.csv")
    one_line(code, err, "row 2 has the label 'mixed'", "'negative', 'positive'")
    code, _, err = keras_bert("predict", run_folder, "great", "")
    one_line(code, err, "text 1: the text is empty")
    code, _, err = keras_bert("predict", run_folder, stdin=b"\xff\n")
    one_line(code, err, "standard input is not UTF-8")
    for command in (("predict", run_folder), ("predict", run_folder, "--file", "nothing.txt")):
        (files / "nothing.txt").write_text("")
        code, _, err = keras_bert(*command)
        one_line(code, err, "is empty: give at least one text")
    code, _, err = keras_bert("evaluate", run_folder, "--data", "test.csv", *COLUMNS, "--batch-size", 0)
    one_line(code, err, "batch_size=0")
    code, _, err = keras_bert("demo", " ")
    one_line(code, err, "the review: the text is empty")
    code, _, err = keras_bert("predict", run_folder, "great", "--file", "test.csv")
    one_line(code, err, "not both")
    code, _, err = keras_bert("export", run_folder, "--output", "test.csv")
    one_line(code, err, "test.csv is a file")


@pytest.mark.filterwarnings("ignore:Corrupt")
@pytest.mark.slow
def test_a_full_disk(keras_bert, files, run_folder):
    """A limit on the size of files fails every write as a full disk does."""
    before = sorted(files.rglob("*"))
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import tensorflow\n"
        "from keras_bert_app import cli\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)\n"
        "cli.main()"
    )
    short = [1 if before == "--epochs" else part for before, part in itertools.pairwise((None, *FINETUNE))]
    for command, limit in (
        (short, 4000),
        (short, 50_000),
        (("export", run_folder, "--output", "saved"), 90_000),
    ):
        arguments = map(str, (limit, *command))
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=files, capture_output=True, text=True
        )
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        one_line(1, last, "cannot write", "Free space there or choose another place")
    left = {path.relative_to(files).parts[0] for path in set(files.rglob("*")) - set(before)}
    assert left <= {"run.unfinished", "saved"}  # to go on from, and an empty folder
    assert not any(path.is_file() for path in (files / "saved").rglob("*"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4000


@pytest.mark.parametrize("epochs", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_demo(keras_bert, tmp_path, monkeypatch, epochs):
    finetune = kba.finetune  # in half the epochs, unless it is run by name
    monkeypatch.setattr(
        kba, "finetune", lambda *args, **options: finetune(*args, **options | {"epochs": epochs})
    )
    code, out, err = keras_bert("demo", "A dull, boring film. What a waste of time.")
    assert code == 0, err
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert float(lines["accuracy"].split()[0]) > 0.6
    assert lines["run"] == "demo"
    assert (tmp_path / lines["exported"] / "saved_model.pb").exists()
    assert lines["review"] == "A dull, boring film. What a waste of time."
    assert lines["answer"].startswith("negative")
    assert "Fine-tuning bert_mini_reviews" in err


def test_lines_of_standard_input_are_those_of_a_file(keras_bert, files, run_folder):
    data = "\ufeffthe film\u0085 was\u2028 great\r\nthe dull film\n".encode()
    (files / "texts.txt").write_bytes(data)
    answers = keras_bert("predict", run_folder, stdin=data)[1]
    assert answers == keras_bert("predict", run_folder, "--file", "texts.txt")[1]
    assert [json.loads(line)["text"] for line in answers.strip().split("\n")] == [
        "the film\u0085 was\u2028 great", "the dull film",
    ]  # fmt: skip


def test_every_option_of_finetune_arrives(keras_bert, files, monkeypatch):
    seen = {}
    monkeypatch.setattr("keras_bert_app.training.finetune", lambda *args, **options: seen.update(options))
    options = {"epochs": 7, "batch_size": 5, "learning_rate": 0.25, "sequence_length": 9, "seed": 3,
               "precision": "mixed_bfloat16", "class_weights": "balanced", "patience": 2}  # fmt: skip
    flags = [str(part) for k, v in options.items() for part in (f"--{k.replace('_', '-')}", v)]
    code, _, err = keras_bert(*FINETUNE[:14], *flags, "--tensorboard", "--profile")
    assert code == 0, err
    assert {name: seen[name] for name in options} == options
    assert seen["tensorboard"] is seen["profile"] is True


def test_vocab(keras_bert, tmp_path):
    (tmp_path / "a.txt").write_text("Café film\nthe film\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"review": "Film, the film"}\n')
    options = ("--size", 99, "--output", "vocab.txt", "--text-column", "review", "--min-frequency", 1)
    code, out, err = keras_bert("vocab", "*.txt", "b.jsonl", *options, "--reserved", "[E1]")
    assert (code, out) == (0, "33 tokens in vocab.txt\n"), err
    tokens = (tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert tokens[:6] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[E1]"]
    assert {"cafe", "film", "the"} < set(tokens)
    assert keras_bert("vocab", "*.txt", "b.jsonl", *options, "--cased")[0] == 0
    assert {"Café", "Film"} < set((tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines())
    code, _, err = keras_bert("vocab", "*.text", "--output", "v.txt")
    one_line(code, err, "there is no file *.text")
    code, _, err = keras_bert("vocab", "a.txt", "--output", "v.txt", "--size", 9)
    one_line(code, err, "size=9")
    assert not (tmp_path / "v.txt").exists()


def test_a_mistake_of_the_program_is_one_line_too(keras_bert, monkeypatch):
    monkeypatch.setattr("keras_bert_app.loading.load", lambda *_, **__: 1 / 0)
    code, _, err = keras_bert("predict", "run", "x")
    one_line(code, err, "ZeroDivisionError", "KERAS_BERT_TRACEBACK=1")


def test_help(keras_bert):
    code, out, _ = keras_bert("--help")
    assert code == 0
    for command in ("demo", "finetune", "evaluate", "predict", "export", "vocab"):
        assert command in out
        assert keras_bert(command, "--help")[0] == 0
    code, _, _ = keras_bert("finetune", "text-classification")
    assert code == 2


def test_a_traceback_on_request(keras_bert, monkeypatch):
    monkeypatch.setenv("KERAS_BERT_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["keras-bert", "predict", "none", "x"])
    with pytest.raises(ValueError, match="there is no folder 'none'"):
        cli.main()
