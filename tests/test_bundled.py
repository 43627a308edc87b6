"""The BERT that comes with the package: what is in it, and that it knows something."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, reviews

import keras_bert_app as kba
from keras_bert_app import bundled, published

MODEL = ROOT / "saved_models" / "bert_mini_reviews"


def test_it_is_the_default():
    preprocessor, encoder = kba.from_pretrained()
    outputs = encoder(preprocessor(["A great film!", "dull"]))
    assert outputs["pooled_output"].shape == (2, 256)
    assert len(outputs["encoder_outputs"]) == 4
    assert (preprocessor.sequence_length, preprocessor.tokenizer.lowercase) == (512, True)
    assert {variable.dtype for variable in encoder.weights} == {"float32"}
    assert all(np.isfinite(np.array(variable)).all() for variable in encoder.weights)
    assert kba.open_checkpoint("bert_mini_reviews").heads == ("masked_lm", "next_sentence")


def test_its_size_and_entry_in_the_list():
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 20e6
    (model,) = (model for model in published.models() if model.name == bundled.DEFAULT)
    encoder = kba.from_pretrained()[1]
    assert model.num_parameters == encoder.count_params()
    config = kba.open_checkpoint(bundled.DEFAULT).config
    assert (model.num_layers, model.hidden_size, model.num_heads, model.vocab_size) == (
        config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.vocab_size,
    )  # fmt: skip


def test_it_guesses_words():
    fill_mask = kba.load(task="fill-mask")
    answers = fill_mask(
        ["I fell [MASK] halfway through.", "The plot makes no [MASK] at all.", "A complete [MASK] of time."]
    )
    assert [row["masks"][0][0]["token"] for row in answers] == ["asleep", "sense", "waste"]


def test_it_knows_what_follows():
    pairs = [
        ("My sister and I saw it on Christmas Eve.", "We both cried at the end, and so did our mother."),
        ("The special effects look like cardboard.", "You can even see the strings on the spaceship."),
        (
            "He plays a detective who drinks too much.",
            "When his partner is murdered, he must find the killer.",
        ),
        ("I read the book when I was a child.", "The film leaves out half of it and changes the ending."),
        ("The songs are wonderful.", "I have been singing them ever since, and bought the soundtrack."),
        ("This is the worst horror movie of the year.", "Nobody in the theater screamed, most laughed."),
    ]
    next_sentence = kba.load(task="next-sentence")
    answers = next_sentence([(first, second) for first, _ in pairs for _, second in pairs])
    scores = np.reshape([answer["score"] for answer in answers], (len(pairs), len(pairs)))
    right = np.eye(len(pairs), dtype=bool)
    assert scores[right].mean() > scores[~right].mean() + 0.1


def test_a_task_without_a_model_or_a_run_folder():
    with pytest.raises(ValueError, match="give the run folder of a fine-tuned model, or a task, such as"):
        kba.load()


@pytest.mark.filterwarnings("ignore:the model gives all")
def test_fine_tuning_starts_from_it(tmp_path):
    model = kba.finetune(
        "text-classification", reviews(16), output=tmp_path / "run", epochs=1, learning_rate=1e-9,
        sequence_length=16,
    )  # fmt: skip
    ours = {variable.path: variable for variable in model.model.weights}
    for variable in kba.from_pretrained()[1].weights:
        np.testing.assert_allclose(np.array(ours[variable.path]), np.array(variable), atol=1e-6)


def test_a_folder_of_its_name_does_not_take_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / bundled.DEFAULT).mkdir()
    assert kba.from_pretrained()[1].count_params() == kba.from_pretrained(bundled.DEFAULT)[1].count_params()
    assert kba.load(bundled.DEFAULT, task="fill-mask")("a [MASK] film")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        kba.from_pretrained(f"./{bundled.DEFAULT}")


def test_an_installation_without_it(monkeypatch, tmp_path):
    monkeypatch.setattr(bundled, "FOLDERS", (tmp_path,))
    with pytest.raises(FileNotFoundError, match="does not hold it: install the package again"):
        kba.from_pretrained()


def test_all_packages_are_installed():
    listed = (ROOT / "setup.cfg").read_text().split("packages =\n")[1].split("\n#")[0].split()
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "keras_bert_app").rglob("__init__.py")
    }
    assert set(listed) == found | {"keras_bert_app.saved_models"}


@pytest.mark.slow
def test_the_recipe(tmp_path):
    for name, folder in (("reviews", "reviews"), ("test", "test"), ("books", "books")):
        (tmp_path / folder).mkdir()
        for number, (text, label) in enumerate(reviews(30)):
            words = f"{text}. The {name} film number {number} was {label}. I loved it. It was fun."
            (tmp_path / folder / f"{number}.txt").write_text(words)
    pairs = "".join(f"a\tThe film was good {i}. <::::> I loved it {i}.\n" for i in range(20))
    (tmp_path / "pairs.tsv").write_text(pairs)
    environment = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "FIRST": "128:3:4,512:2:2", "SECOND": "512:2:2",
        "REVIEWS": "reviews/*.txt", "TEST": "test/*.txt", "BOOKS": "books/*.txt", "SENTENCES": "*.tsv",
    }  # fmt: skip
    done = subprocess.run(
        [MODEL / "recipe.sh", "work"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = {path.name for path in (tmp_path / "work" / "bert_mini_reviews").iterdir()}
    assert {path.name for path in MODEL.iterdir()} - made == {"README.md", "recipe.sh"}
    assert kba.load(tmp_path / "work" / "bert_mini_reviews", task="fill-mask")("a [MASK] film", top_k=1)
