"""What Hugging Face Transformers makes of the folders that this package writes."""

import formats
import numpy as np
import pytest
from conftest import write_pretrained
from oracle import random_tensors

import keras_bert_app as kba
from keras_bert_app import optimization, training
from keras_bert_app.tasks.token_classification import TokenClassification

transformers = pytest.importorskip("transformers", reason="pip install '.[bench]'")
torch = pytest.importorskip("torch", reason="pip install '.[bench]'")
STEPS = 30
INPUTS = {
    "input_ids": "input_word_ids",
    "attention_mask": "input_mask",
    "token_type_ids": "input_type_ids",
}


def batch():
    random = np.random.default_rng(0)
    return {
        "input_word_ids": random.integers(0, 61, (3, 7)),
        "input_mask": (np.arange(7) < [[7], [5], [2]]).astype("int64"),
        "input_type_ids": random.integers(0, 2, (3, 7)),
    }


def theirs(folder, kind):
    """Their outputs, after a check that no tensor was missing or of no use."""
    model, info = getattr(transformers, kind).from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(info.values()), info
    given = {name: torch.tensor(batch()[ours]) for name, ours in INPUTS.items()}
    with torch.no_grad():
        return model.eval()(**given, output_hidden_states=True, output_attentions=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    return write_pretrained(folder, formats.huggingface_names(formats.pretraining_tensors()))


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_encoder(activation, tmp_path):
    folder = write_pretrained(tmp_path / "a", random_tensors(), hidden_act=activation)
    preprocessor, encoder = kba.from_pretrained(folder, output_attentions=True)
    path = kba.save_checkpoint(encoder, tmp_path / "b", preprocessor=preprocessor)
    found, expected = theirs(path, "BertModel"), encoder(batch())
    for ours, other in zip(expected["encoder_outputs"], found.hidden_states[1:], strict=True):
        np.testing.assert_allclose(other, ours, atol=2e-5)
    for ours, other in zip(expected["attentions"], found.attentions, strict=True):
        np.testing.assert_allclose(other, ours, atol=2e-5)
    np.testing.assert_allclose(found.pooler_output, expected["pooled_output"], atol=2e-5)


def test_pretraining_heads(source, tmp_path):
    preprocessor, model = kba.from_pretrained(source, head="pretrainer")
    path = kba.save_checkpoint(model, tmp_path / "b", preprocessor=preprocessor)
    found = theirs(path, "BertForPreTraining")
    expected = model({**batch(), "masked_lm_positions": np.tile(np.arange(7), (3, 1))})
    np.testing.assert_allclose(found.prediction_logits, expected["mlm_logits"], atol=1e-4)
    np.testing.assert_allclose(found.seq_relationship_logits, expected["nsp_logits"], atol=2e-5)


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (lambda encoder: kba.text_classifier(encoder, 3), "BertForSequenceClassification"),
        (lambda encoder: kba.token_classifier(encoder, 5), "BertForTokenClassification"),
        (lambda encoder: kba.span_classifier(encoder), "BertForQuestionAnswering"),
    ],
)
def test_task_heads(build, kind, source, tmp_path):
    preprocessor, encoder = kba.from_pretrained(source)
    model = build(encoder)
    path = kba.save_checkpoint(model, tmp_path / "b", preprocessor=preprocessor)
    found, expected = theirs(path, kind), model(batch())
    expected = expected if isinstance(expected, dict) else {"logits": expected}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-5)


def test_a_training_is_that_of_their_trainer(tmp_path):
    """The same losses and weights, step by step: cross-entropy, clipping, AdamW and linear decay."""
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tensors = formats.huggingface_names(formats.pretraining_tensors())
    preprocessor, encoder = kba.from_pretrained(write_pretrained(tmp_path / "a", tensors, **no_dropout))
    tagger, labels = kba.token_classifier(encoder, 3, dropout=0.0), ["O", "B-a", "I-a"]
    path = kba.save_checkpoint(tagger, tmp_path / "b", preprocessor=preprocessor, labels=labels)
    model = transformers.BertForTokenClassification.from_pretrained(
        path, classifier_dropout=0.0, attn_implementation="eager"
    ).train()
    random = np.random.default_rng(1)
    batches = [(batch(), random.integers(0, 3, (3, 7))) for _ in range(STEPS)]
    for given, _ in batches:
        given["input_word_ids"] = random.integers(0, 61, (3, 7))
    mask = batch()["input_mask"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 0, STEPS)
    expected = []
    for given, right in batches:
        output = model(
            **{name: torch.tensor(given[ours]) for name, ours in INPUTS.items()},
            labels=torch.tensor(np.where(mask, right, -100)),
        )
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        expected.append(output.loss.item())
    task = TokenClassification(labels, True)
    trainer = task.training_model(tagger, preprocessor)
    adamw = optimization.adamw(1e-2, STEPS, warmup=0.0, weight_decay=0.0, epsilon=training.EPSILON)
    trainer.compile(adamw, jit_compile=False, **task.compile_options())
    found = []
    for given, right in batches:
        trainer.reset_metrics()
        found.append(trainer.train_on_batch(given, right, mask.astype("float32"), return_dict=True)["loss"])
    assert expected[-1] < expected[0]
    np.testing.assert_allclose(found, expected, rtol=2e-3)
    np.testing.assert_allclose(
        model.classifier.weight.detach().numpy().T, tagger.get_layer("token_classifier").kernel, atol=1e-3
    )


@pytest.mark.parametrize(("lowercase", "strip_accents"), [(True, None), (True, False), (False, None)])
def test_tokenizer(lowercase, strip_accents, source, tmp_path):
    preprocessor, encoder = kba.from_pretrained(source)
    tokenizer = kba.BertTokenizer(
        [*preprocessor.tokenizer.vocabulary, "é", "É", "fïlm"],
        lowercase=lowercase,
        strip_accents=strip_accents,
    )
    preprocessor = preprocessor.replace(tokenizer=tokenizer)
    path = kba.save_checkpoint(encoder, tmp_path / "b", preprocessor=preprocessor)
    loaded = transformers.AutoTokenizer.from_pretrained(path)
    assert loaded.model_max_length == 32
    texts = ["The FILM was great!", "É é fïlm, not a film…", "", "a film of 東京", "acting\u200b boring"]
    ours = preprocessor(texts)
    found = loaded(texts, padding=True, return_tensors="np")
    for name, other in INPUTS.items():
        np.testing.assert_array_equal(found[name], ours[other])
    pair = loaded(["the plot"], ["was dull"], return_tensors="np")
    for name, other in INPUTS.items():
        np.testing.assert_array_equal(pair[name], preprocessor((["the plot"], ["was dull"]))[other])


def test_what_they_write(source, tmp_path):
    """A folder saved by Transformers itself, the tokenizer in `tokenizer.json` alone."""
    model = transformers.BertForPreTraining.from_pretrained(source)
    model.save_pretrained(tmp_path / "b")
    transformers.BertTokenizer.from_pretrained(source).save_pretrained(tmp_path / "b")
    assert not (tmp_path / "b" / "vocab.txt").exists()
    preprocessor, encoder = kba.from_pretrained(tmp_path / "b")
    expected, reference = kba.from_pretrained(source)
    assert preprocessor.tokenizer.vocabulary == expected.tokenizer.vocabulary
    for ours, other in zip(encoder.weights, reference.weights, strict=True):
        if "seed" not in ours.path:
            np.testing.assert_array_equal(ours, other)
