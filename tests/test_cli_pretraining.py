import json

import keras
import pytest
from test_pretraining import SIZES, write_corpus

from keras_bert_app import cli_pretraining


@pytest.fixture
def folder(tmp_path):
    write_corpus(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", **SIZES}))
    return tmp_path


TRAIN = (
    "--model", "config.json", "--vocabulary", "vocab.txt", "--output", "bert", "--stages", "24:3:4",
    "--learning-rate", 0.01, "--validate-every", 2, "--precision", "float32",
)  # fmt: skip


def test_from_text_to_a_guess(keras_bert, folder):
    code, out, err = keras_bert("vocab", "corpus.txt", "--output", "own.txt", "--size", 60)
    assert code == 0, err
    code, out, err = keras_bert(
        "prepare", "corpus.txt", "--vocabulary", "vocab.txt", "--output", "examples", "--sequence-length", 24,
        "--duplicates", 3, "--validation-share", 0.2, "--short-seq-prob", 0, "--seed", 1, "--shard", "0/1",
    )  # fmt: skip
    assert code == 0, err
    assert "documents                        9\n" in out
    assert out.endswith("examples\n")
    code, out, err = keras_bert("pretrain", "examples", *TRAIN, "--warmup", 0.5, "--dropout", 0)
    assert (code, out) == (0, "bert\n"), err
    assert "step 3/3  loss" in err
    code, out, err = keras_bert(
        "predict", "--task", "fill-mask", "--model", "bert", "the film was [MASK].", "--top-k", 2
    )
    assert code == 0, err
    assert len(json.loads(out)["masks"][0]) == 2


def test_texts_are_prepared_on_the_way(keras_bert, folder):
    code, _, err = keras_bert(
        "pretrain", "corpus.txt", *TRAIN, "--objective", "masked_lm", "--backend", keras.config.backend()
    )
    assert code == 0, err
    details = json.loads((folder / "bert" / "pretraining.json").read_text())
    assert details["examples"]["24"][0]["documents"] == 9
    code, _, err = keras_bert("prepare", "corpus.txt", "--model", "bert", "--output", "more")
    assert code == 0, err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("prepare corpus.txt --output a", "give --vocabulary or --model, one of the two"),
        ("prepare corpus.txt --output a --model b --vocabulary vocab.txt", "one of the two"),
        ("prepare corpus.txt --output a --vocabulary vocab.txt --shard 3", "--shard 3: give INDEX/COUNT"),
        ("prepare corpus.txt --output a --model b --cased", "give --vocabulary or --model|--cased needs"),
        ("pretrain corpus.txt --output a --model b --backend mxnet", "--backend mxnet: one of tensorflow"),
        (
            "pretrain corpus.txt --output a --model config.json --stages 24x3",
            "--stages 24x3: give",
        ),
        ("pretrain corpus.txt --output a --model config.json --cased", "--cased needs --vocabulary"),
        ("pretrain corpus.txt --output a --model config.json --stages 24:3", "a config has no vocabulary"),
        ("prepare nothing.txt --output a --vocabulary vocab.txt", "there is no file nothing.txt"),
    ],
)
def test_mistakes_are_one_line(keras_bert, folder, command, message):
    code, _, err = keras_bert(*command.split())
    assert code == 1
    assert err.startswith("keras-bert: ")
    assert any(part in err for part in message.split("|")), err


def test_cased_vocabulary(folder):
    tokenizer = cli_pretraining._tokenizer(folder / "vocab.txt", cased=True)
    assert not tokenizer.lowercase
