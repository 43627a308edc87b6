import json
import shutil
import warnings

import formats
import keras
import numpy as np
import pytest
from conftest import VOCABULARY, data_file, write_pretrained
from oracle import bert, random_tensors

import keras_bert_app as kba
from keras_bert_app.checkpoints import names
from keras_bert_app.checkpoints.checkpoint import fill, from_stored, stored_shape, to_stored

INPUTS = ("input_word_ids", "input_mask", "input_type_ids")
TOLERANCE = 2e-5
# Of each real checkpoint: its folder, the folder of what it must give, its format and its heads.
PRETRAINING = ("masked_lm", "next_sentence")
REAL = [
    ("huggingface_pretraining", "huggingface", PRETRAINING),
    ("huggingface_classifier", "huggingface", ("text_classifier",)),
    ("huggingface_ner", "huggingface", ("token_classifier",)),
    ("huggingface_qa", "huggingface", ("span_classifier",)),
    ("huggingface_legacy", "huggingface", PRETRAINING),
    ("tf1_google", "google", PRETRAINING),
    ("tf1_google_adam", "google", PRETRAINING),
    ("model_garden/encoder_only", "model_garden", ()),
    ("model_garden/encoder_v2", "model_garden", ()),
    ("model_garden/pretrainer", "model_garden", PRETRAINING),
    ("tfhub_encoder/saved_model", "tfhub", ("masked_lm",)),
    ("keras_hub_preset", "keras_hub", ("masked_lm",)),
]
LABELS = {"classifier": ["negative", "neutral", "positive"], "ner": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]}


def expected_of(name):
    folder = data_file(f"checkpoints/{name}")
    path = folder / "expected.npz"
    return dict(np.load(path if path.exists() else folder.parent / "expected.npz"))


def shared_inputs():
    return dict(np.load(data_file("checkpoints/inputs.npz")))


def outputs_of(checkpoint):
    """What the encoder and the head of a checkpoint make of the shared inputs, by the names of the files."""
    given = shared_inputs()
    encoder, model = checkpoint.build(checkpoint.model, output_attentions=True)
    found = encoder({name: given[name] for name in INPUTS})
    probe = keras.Model(encoder.input, encoder.get_layer("embeddings_norm").output)
    outputs = {
        "embedding_output": probe({name: given[name] for name in INPUTS}),
        "layer_outputs": np.stack(found["encoder_outputs"]),
        "attention_probs": np.stack(found["attentions"]),
        "sequence_output": found["sequence_output"],
        "pooled_output": found["pooled_output"],
        "next_sentence_pooled": found["pooled_output"],
    }
    if model is not encoder:
        answer = model({name: given[name] for name in model.input})
        outputs |= answer if isinstance(answer, dict) else {"logits": answer}
    return {name: np.asarray(value) for name, value in outputs.items()}


@pytest.mark.parametrize(("name", "kind", "heads"), REAL, ids=[row[0] for row in REAL])
def test_real_checkpoints(name, kind, heads):
    if name == "huggingface_legacy":
        pytest.importorskip("torch")
    checkpoint = kba.open_checkpoint(data_file(f"checkpoints/{name}"))
    assert checkpoint.format == kind
    assert checkpoint.heads == heads
    assert checkpoint.labels == LABELS.get(name.removeprefix("huggingface_"))
    expected = expected_of(name)
    if name == "model_garden/pretrainer":  # of its pooler that was not trained
        del expected["pooled_output"]
    outputs = outputs_of(checkpoint)
    assert set(expected) <= set(outputs)
    for key, value in expected.items():
        np.testing.assert_allclose(outputs[key], value, atol=TOLERANCE, err_msg=key)


@pytest.mark.parametrize("name", ["huggingface_pretraining", "tf1_google", "tfhub_encoder/saved_model"])
def test_the_outputs_tell_every_permuted_tensor(name):
    """What no shape tells, such as a transposed square kernel."""
    import tensorflow as tf

    checkpoint = kba.open_checkpoint(data_file(f"checkpoints/{name}"))
    expected, given = expected_of(name), shared_inputs()
    encoder, model = checkpoint.build(checkpoint.model)

    @tf.function
    def run():
        return {**encoder({n: given[n] for n in INPUTS}), **model({n: given[n] for n in model.input})}

    keys = ("sequence_output", "pooled_output", "mlm_logits", "nsp_logits")
    for variable in {v.path: v for v in [*encoder.weights, *model.weights]}.values():
        # A key's bias adds the same to all scores of a row, which softmax does not see.
        if variable.path.endswith(("seed_generator_state", "attention/key/bias")):
            continue
        value = np.asarray(variable)
        square = value.ndim == 2 and value.shape[0] == value.shape[1]
        variable.assign(value.T if square else np.roll(value, 1, axis=0))
        found = run()
        worst = max(np.abs(np.asarray(found[k]) - expected[k]).max() for k in keys if k in expected)
        assert worst > 2 * TOLERANCE, variable.path
        variable.assign(value)


def test_real_checkpoints_have_the_same_weights():
    pytest.importorskip("torch")
    weights = {}
    for name, *_ in REAL:
        if name == "tf1_google_adam":
            continue
        checkpoint = kba.open_checkpoint(data_file(f"checkpoints/{name}"))
        for variable in checkpoint.build(checkpoint.model)[1].weights:
            if "seed" not in variable.path:
                value = weights.setdefault(variable.path, np.asarray(variable))
                np.testing.assert_array_equal(value, variable, err_msg=f"{name}: {variable.path}")


def test_real_tfhub_pair():
    handles = [data_file(f"checkpoints/tfhub_{part}/saved_model") for part in ("preprocess", "encoder")]
    preprocessor, _ = kba.from_pretrained(tuple(handles))
    assert preprocessor.sequence_length == 32
    assert preprocessor.tokenizer.lowercase is True
    expected = json.loads(data_file("checkpoints/tfhub_preprocess/expected.json").read_text())
    texts = expected["texts"]
    packed = np.load(data_file("checkpoints/tfhub_preprocess/expected.npz"))
    ours = preprocessor.replace(padding="max_length")(texts)
    same = [i for i in range(len(texts)) if i not in (2, 6)]  # … and U+FFFD, see BertTokenizer
    for name in INPUTS:
        np.testing.assert_array_equal(
            np.asarray(ours[name])[same], packed[f"call_default_32/{name}"][same], err_msg=name
        )


@pytest.mark.parametrize("name", ["huggingface_pretraining", "tf1_google"])
def test_real_tokenizers(name):
    expected = json.loads(data_file(f"checkpoints/{name}/expected_tokens.json").read_text())
    texts = json.loads(data_file("checkpoints/texts.json").read_text())
    texts = texts if isinstance(texts, list) else texts["texts"]
    tokenizer = kba.from_pretrained(data_file(f"checkpoints/{name}"))[0].tokenizer
    for index, (text, tokens) in enumerate(zip(texts, expected["tokens"], strict=True)):
        if index == 7 and name.startswith("hugging"):
            continue  # special tokens in a text are words in brackets, see BertTokenizer
        found = [tokenizer.id_to_token(int(i)) for i in tokenizer([text]).values]
        assert found == tokens, text


def test_keras_hub_preset_keeps_its_accents():
    tokenizer = kba.from_pretrained(data_file("checkpoints/keras_hub_preset"))[0].tokenizer
    assert (tokenizer.lowercase, tokenizer.strip_accents) == (True, False)


# What follows needs no other data than the tests make.


def write(kind, folder):
    if kind == "huggingface":
        return write_pretrained(folder, formats.huggingface_names(formats.pretraining_tensors()))
    if kind == "google":
        return formats.write_google(folder)
    if kind == "tfhub":
        return formats.write_tfhub(folder / "encoder")
    if kind == "keras_hub":
        return formats.write_keras_hub(folder)
    return formats.write_model_garden(folder, kind)


KINDS = ["huggingface", "google", "encoder", "encoder_v2", "pretrainer", "tfhub", "keras_hub"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_weights(kind, tmp_path):
    tensors = formats.pretraining_tensors()
    checkpoint = kba.open_checkpoint(write(kind, tmp_path / kind))
    encoder, model = checkpoint.build(checkpoint.model)
    ids = np.random.default_rng(0).integers(0, 61, (1, 7))
    mask, types = np.array([[1, 1, 0, 1, 1, 0, 0]]), np.array([[0, 0, 0, 1, 1, 1, 0]])
    activation = "gelu" if kind == "huggingface" else "gelu_new"
    layers, pooled = bert(tensors, ids[0], mask[0], types[0], heads=2, activation=activation)
    inputs = dict(zip(INPUTS, (ids, mask, types), strict=True))
    outputs = encoder(inputs)
    np.testing.assert_allclose(np.stack(outputs["encoder_outputs"])[:, 0], layers[1:], atol=2e-5)
    np.testing.assert_allclose(outputs["pooled_output"][0], pooled, atol=2e-5)
    if model is encoder:
        return
    answer = model(inputs | {"masked_lm_positions": np.array([[3, 0]])})
    t = {name: value.astype("float64") for name, value in tensors.items()}
    if "nsp_logits" in answer:
        nsp = pooled @ t["cls.seq_relationship.weight"].T + t["cls.seq_relationship.bias"]
        np.testing.assert_allclose(answer["nsp_logits"][0], nsp, atol=2e-5)
    np.testing.assert_allclose(answer["mlm_logits"][0], mlm_logits(t, layers[-1][[3, 0]], kind), atol=1e-4)


def mlm_logits(t, x, kind):
    from oracle import ACTIVATIONS

    name = "cls.predictions.transform"
    erf, epsilon = kind in ("huggingface", "keras_hub"), 1e-5 if kind == "keras_hub" else 1e-12
    x = x @ t[f"{name}.dense.weight"].T + t[f"{name}.dense.bias"]
    x = ACTIVATIONS["gelu" if erf else "gelu_new"](x)
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)
    x = x * t[f"{name}.LayerNorm.weight"] + t[f"{name}.LayerNorm.bias"]
    return x @ t["embeddings.word_embeddings.weight"].T + t["cls.predictions.bias"]


@pytest.mark.parametrize("kind", ["google", "encoder", "encoder_v2", "pretrainer"])
def test_every_missing_or_permuted_tensor_is_named(kind, tmp_path):
    import tensorflow as tf

    folder = write(kind, tmp_path / kind)
    checkpoint = kba.open_checkpoint(folder)
    encoder, model = checkpoint.build(checkpoint.model)
    variables = {v.path: v for v in [*encoder.weights, *model.weights]}.values()
    prefix = next(folder.glob("*.index")).with_suffix("")
    reader = tf.train.load_checkpoint(str(prefix))
    tensors = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    leftover = ["/adam_", "global_step", "save_counter"]
    leftover += ["layer_with_weights-7"] if kind == "pretrainer" else []  # its pooler was not trained
    for name in [name for name in tensors if not any(word in name for word in leftover)]:
        short = name.removesuffix(formats.SUFFIX)
        if short.endswith("_query_dense/kernel") and ("-4/" in short or "layers/0/" in short):
            continue  # by this one a checkpoint of the Model Garden is known
        value = tensors.pop(name)
        formats.write_tensorflow(folder, tensors, prefix.name)
        with pytest.raises(ValueError, match=r"lacks tensors: .*" + _pattern(short)):
            fill(variables, kba.open_checkpoint(folder))
        if value.ndim > 1 and value.shape != value.T.shape:
            formats.write_tensorflow(folder, {**tensors, name: value.T}, prefix.name)
            with pytest.raises(ValueError, match=f"{_pattern(short)} has shape"):
                fill(variables, kba.open_checkpoint(folder))
        tensors[name] = value
    formats.write_tensorflow(folder, tensors, prefix.name)
    assert fill(variables, kba.open_checkpoint(folder)) == []


def _pattern(name):
    import re

    # The word embeddings of a pretraining run are known by the name that they have in an encoder.
    return "(embeddings|embedding_table)" if name == "masked_lm/embedding_table" else re.escape(name)


def test_a_tensor_of_no_use_is_named_and_can_be_ignored(tmp_path):
    tensors = formats.pretraining_tensors() | {"my.head.weight": np.zeros(3, "float32")}
    folder = write_pretrained(tmp_path, formats.huggingface_names(tensors))
    with pytest.raises(ValueError, match=r"no place: my.head.weight. If .* ignore=\[pattern\]"):
        kba.from_pretrained(folder)
    assert kba.from_pretrained(folder, ignore=["my.head.*"])[1].name == "bert_encoder"


def test_two_decoders_are_refused(tmp_path):
    tensors = formats.pretraining_tensors()
    words = tensors["embeddings.word_embeddings.weight"]
    tied = {
        "cls.predictions.decoder.weight": words,
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
    }
    folder = write_pretrained(tmp_path / "tied", formats.huggingface_names(tensors | tied))
    assert kba.from_pretrained(folder, head="pretrainer")[1].name == "pretrainer"
    tied["cls.predictions.decoder.weight"] = words + 1
    folder = write_pretrained(tmp_path / "untied", formats.huggingface_names(tensors | tied))
    with pytest.raises(ValueError, match="decoder.weight differs from embeddings.word_embeddings.weight"):
        kba.from_pretrained(folder)


def test_heads_that_are_not_there(tmp_path, pretrained):
    with pytest.raises(ValueError, match="has no pretrainer: its heads are none"):
        kba.from_pretrained(pretrained, head="pretrainer")
    with pytest.raises(ValueError, match="head='classifier': one of pretrainer, text_classifier"):
        kba.from_pretrained(pretrained, head="classifier")
    folder = formats.write_google(tmp_path / "google")
    with pytest.raises(ValueError, match="has no text_classifier: its heads are masked_lm, next_sentence"):
        kba.from_pretrained(folder, head="text_classifier")


def test_half_a_classifier(tmp_path):
    tensors = formats.pretraining_tensors() | {"classifier.weight": np.zeros((3, 10), "float32")}
    with pytest.raises(ValueError, match="lacks tensors: classifier.bias"):
        kba.from_pretrained(write_pretrained(tmp_path, tensors), head="text_classifier")


def test_casing_of_a_vocabulary(tmp_path):
    folder = formats.write_google(tmp_path)
    path = folder / "vocab.txt"
    assert kba.open_checkpoint(folder).tokenizer["lowercase"] is True
    path.write_text("".join(f"{token}\n" for token in [*VOCABULARY, "<S>", "##\u211d"]))
    assert kba.open_checkpoint(folder).tokenizer["lowercase"] is True
    path.write_text("".join(f"{token}\n" for token in [*VOCABULARY, "Paris"]))
    assert kba.open_checkpoint(folder).tokenizer["lowercase"] is False
    path.unlink()
    assert kba.open_checkpoint(folder).tokenizer is None
    with pytest.raises(FileNotFoundError, match="has no vocabulary: put vocab.txt beside"):
        kba.from_pretrained(folder)


@pytest.mark.parametrize(
    ("vocabulary", "lowercase"),
    [("uncased", True), ("cased", False), ("multilingual-cased", False), ("chinese", True)],
)
def test_casing_of_googles_vocabularies(tmp_path, vocabulary, lowercase):
    from keras_bert_app.checkpoints.tokenizers import from_vocabulary

    assert from_vocabulary(data_file(f"vocab/bert-base-{vocabulary}/vocab.txt"))["lowercase"] is lowercase


def test_prefix_and_parent_folder(tmp_path):
    folder = formats.write_model_garden(tmp_path / "run", "encoder_v2")
    _, by_prefix = kba.from_pretrained(str(folder / "bert_model.ckpt-1"))
    (folder / "step").mkdir()
    for path in folder.glob("bert_model.ckpt*"):
        path.rename(folder / "step" / path.name)
    _, below = kba.from_pretrained(folder / "step")
    for a, b in zip(by_prefix.weights, below.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    for path in list((folder / "step").iterdir()):
        shutil.copy(path, path.with_name(path.name.replace("bert_model", "other")))
    with pytest.raises(ValueError, match="holds several checkpoints: give the one you want, such as .*other"):
        kba.open_checkpoint(folder / "step")


def test_google_looks_beside_the_checkpoint_alone(tmp_path):
    folder = formats.write_google(tmp_path / "run")
    (folder / "step").mkdir()
    for path in folder.glob("bert_model.ckpt*"):
        path.rename(folder / "step" / path.name)
    with pytest.raises(FileNotFoundError, match="step has no bert_config.json"):
        kba.open_checkpoint(folder / "step")


def test_several_formats_in_a_folder(tmp_path):
    folder = write_pretrained(tmp_path)
    (folder / "faiss.index").write_bytes(b"x")
    formats.write_google(tmp_path)
    (folder / "bert_config.json").unlink()
    assert kba.open_checkpoint(folder).format == "huggingface"
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    (folder / "vocab.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no bert_config.json"):
        kba.open_checkpoint(folder)
    with pytest.raises(FileNotFoundError, match=r"is a file: give its folder"):
        kba.open_checkpoint(folder / "bert_model.ckpt.index")


def test_a_huggingface_config_without_its_usual_keys(tmp_path):
    """As the first releases wrote it: "gelu" is the exact form all the same."""
    folder = write_pretrained(tmp_path)
    values = json.loads((folder / "config.json").read_text())
    del values["model_type"]
    (folder / "config.json").write_text(json.dumps({**values, "hidden_act": "gelu"}))
    assert kba.open_checkpoint(folder).config.hidden_act == "gelu"


def test_two_tensors_of_one_name(tmp_path):
    tensors = formats.huggingface_names(formats.pretraining_tensors())
    tensors["embeddings.word_embeddings.weight"] = np.zeros((61, 10), "float32")
    with pytest.raises(ValueError, match=r"has two tensors for embeddings.word_embeddings.weight"):
        kba.open_checkpoint(write_pretrained(tmp_path, tensors))


def test_weights_that_are_no_floats(tmp_path):
    tensors = random_tensors()
    tensors["pooler.dense.bias"] = tensors["pooler.dense.bias"].astype("int8")
    with pytest.raises(ValueError, match=r"pooler.dense.bias is int8: weights must be float32, float16"):
        kba.from_pretrained(write_pretrained(tmp_path, tensors))


@pytest.mark.parametrize("parts", [[], "x", {"a": 5}, {"a": None}, None])
def test_a_damaged_index_of_parts(parts, tmp_path):
    folder = write_pretrained(tmp_path)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
    with pytest.raises(ValueError, match="is damaged: weight_map must say"):
        kba.open_checkpoint(folder)


def test_a_classifier_without_a_pooler(tmp_path):
    tensors = {name: value for name, value in random_tensors().items() if "pooler" not in name}
    tensors |= {"classifier.weight": np.ones((2, 10), "float32"), "classifier.bias": np.zeros(2, "float32")}
    folder = write_pretrained(tmp_path / "a", tensors, architectures=["BertForSequenceClassification"])
    with pytest.raises(ValueError, match="lacks tensors: pooler.dense.weight, pooler.dense.bias"):
        kba.from_pretrained(folder, head="text_classifier")
    folder = write_pretrained(tmp_path / "b", tensors, architectures=["BertForNER"])
    assert kba.open_checkpoint(folder).heads == ("token_classifier",)


def test_a_classifier_of_several_labels_at_once(tmp_path):
    tensors = random_tensors() | {
        "classifier.weight": np.ones((2, 10), "float32"),
        "classifier.bias": np.zeros(2, "float32"),
    }
    kind = {"problem_type": "multi_label_classification", "id2label": {"0": "rude", "1": "kind"}}
    folder = write_pretrained(tmp_path / "a", tensors, **kind)
    (answer,) = kba.load(folder)("film")
    assert set(answer["scores"]) == {"rude", "kind"}
    assert len(answer["labels"]) in (0, 2)  # both have the same weights
    for format in ("huggingface", "google"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "this format cannot say")
            kba.convert(folder, tmp_path / format, format)
        assert kba.open_checkpoint(tmp_path / format).problem_type == "multi_label_classification"


def test_model_garden_roots_and_other_heads(tmp_path):
    tensors = formats.model_garden_names(
        formats.pretraining_tensors(), "encoder/layer_with_weights-{1}", formats.MODEL_GARDEN
    )
    rooted = {f"model/{name}" if name.startswith("encoder/") else name: v for name, v in tensors.items()}
    rooted |= {
        f"optimizer/iter{formats.SUFFIX}": np.int64(3),
        f"model/encoder/layer_with_weights-7/bias/.OPTIMIZER_SLOT/optimizer/m{formats.SUFFIX}": np.zeros(10),
    }
    folder = formats.write_tensorflow(tmp_path / "a", rooted)
    assert kba.from_pretrained(folder)[1].name == "bert_encoder"
    other = {f"model/classification_heads/0/out_proj/kernel{formats.SUFFIX}": np.zeros((10, 2), "float32")}
    folder = formats.write_tensorflow(tmp_path / "b", rooted | other)
    assert kba.open_checkpoint(folder).heads == ()
    with pytest.raises(ValueError, match="no place: model/classification_heads/0/out_proj/kernel"):
        kba.from_pretrained(folder)


def test_slots_of_other_optimizers(tmp_path):
    tensors = formats.google_names(formats.pretraining_tensors())
    slots = {f"{name}/{slot}": value for name, value in tensors.items() for slot in ("Adam", "Adam_1")}
    folder = formats.write_tensorflow(tmp_path, tensors | slots | {"beta1_power": np.float32(0.9)})
    assert kba.from_pretrained(folder)[1].name == "bert_encoder"


def test_a_module_of_tensorflow_1(tmp_path):
    import tensorflow as tf

    root = tf.Module()
    root.weights = [tf.Variable(v, name=n) for n, v in formats.google_names(random_tensors()).items()]
    tf.saved_model.save(root, str(tmp_path / "hub"))
    with pytest.raises(ValueError, match="is a module of TensorFlow 1"):
        kba.open_checkpoint(tmp_path / "hub")


@pytest.mark.parametrize(
    "note",
    [
        {"leftovers": ".*"},
        {"tokenizer": {"vocabulary": "/etc/passwd"}},
        {"tensors": "x"},
        {"labels": "abc"},
        {"mlm_epsilon": "x"},
        {"config": []},
        {"config": {"extra": 1}},
    ],
)
def test_a_note_may_say_little(note, tmp_path):
    folder = write_pretrained(tmp_path)
    (folder / "keras_bert_app.json").write_text(json.dumps(note))
    with pytest.raises(ValueError, match=r"keras_bert_app.json is damaged"):
        kba.open_checkpoint(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "tokenizer_class='BertJapaneseTokenizer'"),
        ({"do_basic_tokenize": False}, "do_basic_tokenize=False"),
        ({"do_lower_case": "yes"}, "do_lower_case='yes': it must be true, false or null"),
    ],
)
def test_tokenizers_of_other_kinds(options, message, tmp_path):
    folder = write_pretrained(tmp_path)
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    with pytest.raises(ValueError, match=message):
        kba.open_checkpoint(folder)


def test_added_tokens_beside_a_vocabulary(tmp_path):
    folder = write_pretrained(tmp_path)
    (folder / "added_tokens.json").write_text(json.dumps({"[ENT]": len(VOCABULARY)}))
    tokenizer = kba.from_pretrained(folder)[0].tokenizer
    assert tokenizer(["[ENT] film"]).to_list() == [[len(VOCABULARY), VOCABULARY.index("film")]]
    (folder / "added_tokens.json").write_text(json.dumps({"[ENT]": 900}))
    with pytest.raises(ValueError, match="its ids do not follow those of vocab.txt"):
        kba.open_checkpoint(folder)


def test_params_of_a_model_garden_run(tmp_path):
    folder = formats.write_model_garden(tmp_path, "encoder_v2")
    values = json.loads((folder / "bert_config.json").read_text())
    (folder / "bert_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither bert_config.json nor params.yaml"):
        kba.open_checkpoint(folder)
    names_there = {
        "num_layers": values["num_hidden_layers"],
        "hidden_activation": "gelu",
        "dropout_rate": 0.2,
        "max_position_embeddings": 32,
        "type_vocab_size": 2,
        "embedding_size": 10,
        "return_all_encoder_outputs": False,
    } | {k: values[k] for k in ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size")}
    lines = "".join(f"        {name}: {value}\n" for name, value in names_there.items())
    start = "task:\n  model:\n    encoder:\n      type: bert\n      bert:\n"
    (folder / "params.yaml").write_text(start + lines)
    config = kba.open_checkpoint(folder).config
    assert (config.hidden_act, config.hidden_dropout_prob, config.num_hidden_layers) == ("gelu_new", 0.2, 3)
    (folder / "params.yaml").write_text("task: {}")
    with pytest.raises(ValueError, match="names no BERT at task.model.encoder.bert"):
        kba.open_checkpoint(folder)
    (folder / "params.yaml").write_text("task: !!python/object/apply:os.system ['true']")
    with pytest.raises(ValueError, match=r"params.yaml is damaged"):
        kba.open_checkpoint(folder)


def test_numbers_of_a_tfhub_graph(tmp_path):
    folder = formats.write_tfhub(tmp_path / "a" / "encoder", activation="gelu", epsilon=1e-5)
    config = kba.open_checkpoint(folder).config
    assert (config.hidden_act, config.layer_norm_eps) == ("gelu", 1e-5)
    assert (config.num_attention_heads, config.num_hidden_layers, config.intermediate_size) == (2, 3, 37)


def test_the_encoder_of_a_pair_has_the_last_word_on_casing(tmp_path):
    import tensorflow as tf

    encoder = formats.write_tfhub(tmp_path / "a" / "encoder")
    preprocess = tf.Module()
    preprocess.__call__ = tf.function(
        lambda x: {"x": x}, [tf.TensorSpec([None], tf.string)]
    )  # of no known casing
    preprocess.vocab_file = tf.saved_model.Asset(str(encoder / "assets" / "vocab.txt"))
    tf.saved_model.save(preprocess, str(tmp_path / "preprocess"))
    assert kba.open_checkpoint((tmp_path / "preprocess", encoder)).tokenizer["lowercase"] is True


def test_a_savedmodel_of_another_kind(tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.v = tf.Variable(1.0)
    tf.saved_model.save(module, str(tmp_path / "other"))
    with pytest.raises(ValueError, match="is no TF-Hub encoder of a BERT.*use hub_layer"):
        kba.open_checkpoint(tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "variables")
    with pytest.raises(FileNotFoundError, match=r"no variables/variables.index"):
        kba.open_checkpoint(tmp_path / "other")
    with pytest.raises(ValueError, match="a pair is"):
        kba.open_checkpoint((tmp_path, tmp_path, tmp_path))


def test_damaged_files(tmp_path):
    folder = formats.write_tfhub(tmp_path / "hub" / "encoder")
    (folder / "saved_model.pb").write_bytes((folder / "saved_model.pb").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"saved_model.pb is damaged"):
        kba.open_checkpoint(folder)
    folder = formats.write_google(tmp_path / "google")
    data = folder / "bert_model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:5000])
    with pytest.raises(ValueError, match="damaged or cut short"):
        kba.from_pretrained(folder)
    (folder / "bert_model.ckpt.index").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged or cut short"):
        kba.from_pretrained(folder)
    (folder / "bert_config.json").unlink()
    folder = formats.write_google(tmp_path / "other")
    (folder / "bert_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="has no bert_config.json"):
        kba.open_checkpoint(folder)
    empty = formats.write_tensorflow(tmp_path / "empty", {"x": np.zeros(3, "float32")})
    with pytest.raises(ValueError, match="is no checkpoint of a BERT"):
        kba.open_checkpoint(empty)


def test_keras_hub_errors(tmp_path):
    import h5py

    folder = formats.write_keras_hub(tmp_path / "preset")
    values = json.loads((folder / "config.json").read_text())
    path = folder / "model.weights.h5"
    with h5py.File(path, "a") as file:
        word = file["layers/reversible_embedding/vars"]
        kept = word["0"][...]
        del word["0"]
        word["0"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(ValueError, match="is kept elsewhere"):
        kba.open_checkpoint(folder)
    with h5py.File(path, "a") as file:
        word = file["layers/reversible_embedding/vars"]
        del word["0"]
        word.create_dataset("0", data=kept.T)
    with pytest.raises(ValueError, match=r"reversible_embedding/vars/0 has shape \(10, 61\)"):
        kba.from_pretrained(folder)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged or cut short"):
        kba.open_checkpoint(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="a KerasHub preset holds its weights there"):
        kba.open_checkpoint(folder)
    (folder / "config.json").write_text(json.dumps(values | {"class_name": "GemmaBackbone"}))
    with pytest.raises(ValueError, match="a preset of GemmaBackbone"):
        kba.open_checkpoint(folder)
    (folder / "config.json").write_text(json.dumps(values | {"config": {}}))
    with pytest.raises(ValueError, match="is damaged: it lacks 'vocabulary_size'"):
        kba.open_checkpoint(folder)


def test_other_presets_of_keras_hub(tmp_path, monkeypatch):
    import keras_hub

    from keras_bert_app.checkpoints import keras_hub as reader

    sizes = {
        "vocabulary_size": 61, "num_layers": 3, "num_heads": 2, "hidden_dim": 10, "intermediate_dim": 37,
        "max_sequence_length": 32,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`build\(\)` was called")  # KerasHub 0.31, of its own models
        half = keras_hub.models.BertBackbone(**sizes, dtype="bfloat16")
        half.save_to_preset(tmp_path / "half")
        classifier = keras_hub.models.BertTextClassifier(
            keras_hub.models.BertBackbone(**sizes), num_classes=5, activation="sigmoid"
        )
        classifier.save_to_preset(tmp_path / "classifier")
    words = kba.open_checkpoint(tmp_path / "half").build()[0].get_layer("word_embeddings").embeddings
    np.testing.assert_array_equal(words, np.asarray(half.weights[0]).astype("float32"))
    checkpoint = kba.open_checkpoint(tmp_path / "classifier")
    assert (checkpoint.heads, checkpoint.problem_type) == (("text_classifier",), "multi_label_classification")
    assert checkpoint.build("text_classifier")[1].output_shape == (None, 5)
    monkeypatch.setattr(reader, "MAX_ITEMS", 20)
    with pytest.raises(ValueError, match="has more than 20 items"):
        kba.open_checkpoint(tmp_path / "half")


def test_keras_hub_without_a_tokenizer(tmp_path):
    folder = formats.write_keras_hub(tmp_path / "preset")
    shutil.rmtree(folder / "assets")
    assert kba.open_checkpoint(folder).tokenizer is None


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"holds no checkpoint: there is notes.txt. Give a folder"):
        kba.open_checkpoint(tmp_path)


def test_load_checkpoint(tmp_path):
    folder = formats.write_google(tmp_path / "google")
    checkpoint = kba.open_checkpoint(folder)
    model = kba.pretrainer(kba.bert_encoder(checkpoint.config))
    kba.load_checkpoint(model, folder)
    _, expected = checkpoint.build("pretrainer")
    for a, b in zip(model.weights, expected.weights, strict=True):
        if "seed" not in a.path:
            np.testing.assert_array_equal(a, b)
    for name, value in (
        ("hidden_act", "gelu"),
        ("layer_norm_eps", 1e-6),
        ("num_attention_heads", 5),
        ("num_hidden_layers", 2),
        ("vocab_size", 60),
    ):
        other = kba.bert_encoder(kba.BertConfig(**{**vars(checkpoint.config), name: value}))
        with pytest.raises(ValueError, match=f"the model has {name}={value!r}, .* was trained with"):
            kba.load_checkpoint(other, folder)
    for name, value in (("activation", "gelu"), ("epsilon", 1e-5)):
        other = kba.pretrainer(kba.bert_encoder(checkpoint.config), **{name: value})
        with pytest.raises(ValueError, match=f"the model has mlm_{name}={value!r}"):
            kba.load_checkpoint(other, folder)
    classifier = kba.token_classifier(kba.bert_encoder(checkpoint.config), 5)
    with pytest.raises(ValueError, match="no name for the variable token_classifier/kernel"):
        kba.load_checkpoint(classifier, folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 10**12}, r"word_embeddings.weight has shape \(61, 10\), the config asks for"),
        ({"intermediate_size": 10**12}, "intermediate.dense.weight has shape"),
        ({"max_position_embeddings": 10**12}, "position_embeddings.weight has shape"),
        ({"num_hidden_layers": 10**12}, "num_hidden_layers=1,000,000,000,000: give a number up to 1,000"),
    ],
)
def test_no_memory_is_taken_for_sizes_that_the_file_has_not(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        kba.from_pretrained(write_pretrained(tmp_path, **changes))


@pytest.mark.parametrize("labels", [None, 3, ["a", "b"], {"a": "x", "b": "y"}, {"0": "x"}])
def test_labels_that_are_none(labels, tmp_path):
    tensors = random_tensors() | {
        "classifier.weight": np.zeros((2, 10), "float32"),
        "classifier.bias": np.zeros(2, "float32"),
    }
    assert kba.open_checkpoint(write_pretrained(tmp_path / "a", tensors, id2label=labels)).labels is None
    assert kba.open_checkpoint(write_pretrained(tmp_path / "b", tensors)).labels == ["LABEL_0", "LABEL_1"]


def test_layouts():
    value = np.arange(60.0).reshape(6, 10)
    for layout in names.LAYOUTS:
        stored = to_stored(value, layout, 2)
        assert stored.shape == stored_shape(value.shape, layout, 2)
        np.testing.assert_array_equal(from_stored(stored, value.shape, layout), value)
    assert stored_shape((6, 10), "heads_out", 2) == (6, 2, 5)
    assert stored_shape((6, 10), "heads_in", 2) == (2, 3, 10)
    assert stored_shape((10,), "heads", 2) == (2, 5)
