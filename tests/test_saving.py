import json

import formats
import numpy as np
import pytest
from conftest import VOCABULARY, data_file, run_python, write_pretrained

import keras_bert_app as kba
from keras_bert_app.checkpoints import opening

FORMATS = ("huggingface", "tfhub", "keras_hub", "google")
PRETRAINING = ("masked_lm", "next_sentence")
# What no other program than this one can say of a model with the exact GELU, see `save_checkpoint`.
UNSAID = "ignore:this format cannot say:UserWarning"
LEFT_OUT = "ignore:.* has no place for:UserWarning"


@pytest.fixture(scope="module")
def pretrained_heads(tmp_path_factory):
    """Preprocessor and pretrainer of a small BERT with distinct weights, the exact GELU, and accents."""
    folder = tmp_path_factory.mktemp("heads")
    write_pretrained(folder, formats.huggingface_names(formats.pretraining_tensors()))
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "strip_accents": false}')
    return kba.from_pretrained(folder, head="pretrainer")


def weights_of(model):
    return {v.path: np.asarray(v) for v in model.weights if "seed" not in v.path}


@pytest.mark.filterwarnings(UNSAID, LEFT_OUT)
@pytest.mark.parametrize("format", FORMATS)
def test_round_trip_to_the_bit(format, pretrained_heads, tmp_path):
    preprocessor, model = pretrained_heads
    path = kba.save_checkpoint(model, tmp_path / "saved", format, preprocessor)
    again, read = kba.from_pretrained(path, head="pretrainer")
    expected = weights_of(model)
    found = weights_of(read)
    heads = {"huggingface": 7, "google": 7, "tfhub": 5, "keras_hub": 5}[format]
    encoder = weights_of(kba.from_pretrained(path)[1])
    assert len(found.keys() | encoder.keys()) == 55 + heads
    for path, value in (encoder | found).items():
        np.testing.assert_array_equal(value, expected[path], err_msg=path)
    assert again.tokenizer.vocabulary == preprocessor.tokenizer.vocabulary
    assert (again.tokenizer.lowercase, again.tokenizer.strip_accents) == (True, False)
    inputs = {name: np.ones((3, 7), "int32") for name in ("input_word_ids", "input_mask", "input_type_ids")}
    inputs["masked_lm_positions"] = np.array([[1, 2]] * 3)
    np.testing.assert_array_equal(read(inputs)["mlm_logits"], model(inputs)["mlm_logits"])


@pytest.mark.filterwarnings(UNSAID, LEFT_OUT)
@pytest.mark.parametrize("format", ["huggingface", "keras_hub", "google"])
def test_classifiers_and_their_labels(format, pretrained, tmp_path):
    preprocessor, encoder = kba.from_pretrained(pretrained)
    model = kba.text_classifier(encoder, 3)
    labels = ["bad", "mixed", "good"]
    path = kba.save_checkpoint(model, tmp_path / "saved", format, preprocessor, labels)
    read = kba.load(path)
    assert read.labels == labels
    answer = read(["a great film"])[0]
    expected = model(preprocessor(["a great film"]))[0]
    assert answer["label"] == labels[int(np.argmax(expected))]
    for path, value in weights_of(read.model).items():
        np.testing.assert_array_equal(value, weights_of(model)[path])


@pytest.mark.parametrize("build", ["token_classifier", "span_classifier"])
def test_heads_of_tokens(build, pretrained, tmp_path):
    preprocessor, encoder = kba.from_pretrained(pretrained)
    model = kba.span_classifier(encoder) if build == "span_classifier" else kba.token_classifier(encoder, 5)
    kba.save_checkpoint(model, tmp_path / "saved", preprocessor=preprocessor)
    read = kba.from_pretrained(tmp_path / "saved", head=build)[1]
    for path, value in weights_of(read).items():
        np.testing.assert_array_equal(value, weights_of(model)[path])
    with pytest.warns(UserWarning, match="has no pooler: pooler.dense.weight, pooler.dense.bias start"):
        kba.from_pretrained(tmp_path / "saved")


def test_a_warning_says_what_other_programs_get_wrong(pretrained_heads, tmp_path):
    preprocessor, model = pretrained_heads
    with pytest.warns(UserWarning, match="cannot say hidden_act='gelu', mlm_activation='gelu'"):
        path = kba.save_checkpoint(model, tmp_path / "google", "google", preprocessor)
    assert kba.open_checkpoint(path).config.hidden_act == "gelu"
    assert opening.open_folder(path, note=False).config.hidden_act == "gelu_new"
    assert json.loads((path / "bert_config.json").read_text())["hidden_act"] == "gelu"
    (path / "keras_bert_app.json").write_text('{"config": {"extra": 1}}')
    with pytest.raises(ValueError, match=r"keras_bert_app.json is damaged"):
        kba.open_checkpoint(path)


def test_nothing_is_noted_that_the_format_says(pretrained_heads, tmp_path):
    _, model = pretrained_heads
    path = kba.save_checkpoint(model, tmp_path / "saved")
    assert sorted(p.name for p in path.iterdir()) == ["config.json", "model.safetensors"]


def test_wrong_arguments(pretrained, tmp_path):
    preprocessor, encoder = kba.from_pretrained(pretrained)
    with pytest.raises(ValueError, match="format='onnx': one of huggingface, tfhub, keras_hub, google"):
        kba.save_checkpoint(encoder, tmp_path / "x", "onnx")
    with pytest.raises(FileExistsError, match="choose another folder"):
        kba.save_checkpoint(encoder, tmp_path)
    with pytest.raises(ValueError, match="give the preprocessor"):
        kba.save_checkpoint(encoder, tmp_path / "x", "tfhub")
    with pytest.raises(ValueError, match="2 labels for 3 outputs"):
        kba.save_checkpoint(kba.text_classifier(encoder, 3), tmp_path / "x", labels=["a", "b"])
    larger = kba.BertPreprocessor([*VOCABULARY, *(f"word{i}" for i in range(50))])
    with pytest.raises(ValueError, match="they do not belong together"):
        kba.save_checkpoint(encoder, tmp_path / "x", preprocessor=larger)
    assert not (tmp_path / "x").exists()
    del preprocessor


def test_nothing_is_left_if_it_cannot_be_written(pretrained, tmp_path, monkeypatch):
    _, encoder = kba.from_pretrained(pretrained)
    import safetensors.numpy

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match="No space left on device. Free space there"):
        kba.save_checkpoint(encoder, tmp_path / "out" / "saved")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.filterwarnings(UNSAID)
def test_keras_hub_loads_it(pretrained_heads, tmp_path):
    preprocessor, model = pretrained_heads
    config = kba.BertConfig(61, 10, 3, 2, 37, "gelu_new", max_position_embeddings=32)
    encoder = kba.bert_encoder(config)
    values = weights_of(model)
    for variable in encoder.weights:
        if "seed" not in variable.path:
            variable.assign(values[variable.path])
    head = kba.pretrainer(encoder, ["masked_lm"], activation="gelu", epsilon=1e-5)
    for variable in head.weights:
        if "seed" not in variable.path:
            variable.assign(values[variable.path])
    import keras
    import keras_hub

    both = keras.Model(head.input, {**head.output, "pooled_output": encoder.output["pooled_output"]})
    kba.save_checkpoint(both, tmp_path / "preset", "keras_hub", preprocessor)
    theirs = keras_hub.models.MaskedLM.from_preset(str(tmp_path / "preset"))
    random = np.random.default_rng(0)
    ids, types = random.integers(0, 61, (3, 7)), random.integers(0, 2, (3, 7))
    mask = (np.arange(7) < [[7], [5], [2]]).astype("int32")
    positions = random.integers(0, 7, (3, 4))
    given = {"token_ids": ids, "segment_ids": types, "padding_mask": mask}
    outputs = encoder({"input_word_ids": ids, "input_mask": mask, "input_type_ids": types})
    found = theirs.backbone(given)
    np.testing.assert_allclose(found["sequence_output"], outputs["sequence_output"], atol=2e-5)
    np.testing.assert_allclose(found["pooled_output"], outputs["pooled_output"], atol=2e-5)
    logits = head(
        {"input_word_ids": ids, "input_mask": mask, "input_type_ids": types, "masked_lm_positions": positions}
    )["mlm_logits"]
    theirs.get_layer("mlm_head").activation = None  # it gives probabilities
    np.testing.assert_allclose(theirs({**given, "mask_positions": positions}), logits, atol=1e-4)
    tokenizer = theirs.preprocessor.tokenizer
    assert tokenizer.get_vocabulary() == list(preprocessor.tokenizer.vocabulary)
    assert (tokenizer.lowercase, tokenizer.strip_accents) == (True, False)
    plain = preprocessor.replace(tokenizer=list(preprocessor.tokenizer.vocabulary))
    kba.save_checkpoint(both, tmp_path / "plain", "keras_hub", plain)
    tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(str(tmp_path / "plain"))
    assert (tokenizer.lowercase, tokenizer.strip_accents) == (True, True)


def test_keras_hub_without_a_pooler(tmp_path, pretrained_heads):
    preprocessor, model = pretrained_heads
    head = kba.pretrainer(kba.bert_encoder(kba.BertConfig(61, 10, 3, 2, 37, "gelu_new")), ["masked_lm"])
    with (
        pytest.warns(UserWarning, match="that of the preset has fresh weights"),
        pytest.warns(UserWarning, match="cannot say mlm_activation='gelu_new', mlm_epsilon=1e-12"),
    ):
        kba.save_checkpoint(head, tmp_path / "preset", "keras_hub", preprocessor)
    del model


def test_tokenizer_json_alone(pretrained_heads, tmp_path):
    preprocessor, model = pretrained_heads
    tokenizer = kba.BertTokenizer(
        [*preprocessor.tokenizer.vocabulary, "[ENT]"], strip_accents=False, special_tokens=["[ENT]"]
    )
    path = kba.save_checkpoint(model, tmp_path / "a", preprocessor=kba.BertPreprocessor(tokenizer))
    (path / "vocab.txt").unlink()
    (path / "tokenizer_config.json").unlink()
    read = kba.from_pretrained(path)[0].tokenizer
    assert read.vocabulary == tokenizer.vocabulary
    assert (read.lowercase, read.strip_accents) == (True, False)
    (path / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="has no vocabulary"):
        kba.from_pretrained(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["model"].update(type="BPE"), "its model is 'BPE'"),
        (lambda v: v["normalizer"].update(type="NFC"), "its normalizer is 'NFC'"),
        (lambda v: v["normalizer"].update(handle_chinese_chars=False), "tokenize_chinese_chars=False"),
        (lambda v: v["model"]["vocab"].update(film=900), "its ids do not go from 0"),
        (lambda v: v.update(model=["WordPiece"]), "tokenizer.json is damaged"),
        (
            lambda v: v["added_tokens"].extend(
                {"content": f"[T{i}]", "id": len(VOCABULARY) + i, "special": True} for i in range(29)
            ),
            "29 tokens were added to its vocabulary, at most 28",
        ),
    ],
)
def test_other_tokenizers(change, message, pretrained_heads, tmp_path):
    preprocessor, model = pretrained_heads
    path = kba.save_checkpoint(model, tmp_path / "saved", preprocessor=preprocessor)
    (path / "vocab.txt").unlink()
    (path / "tokenizer_config.json").unlink()
    values = json.loads((path / "tokenizer.json").read_text())
    change(values)
    (path / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        kba.open_checkpoint(path)


def test_added_tokens(pretrained_heads, tmp_path):
    preprocessor, model = pretrained_heads
    path = kba.save_checkpoint(model, tmp_path / "saved", preprocessor=preprocessor)
    values = json.loads((path / "tokenizer.json").read_text())
    values["added_tokens"].append({"content": "[ENT]", "id": len(VOCABULARY), "special": True})
    values["model"]["max_input_chars_per_word"] = 50
    (path / "tokenizer.json").write_text(json.dumps(values))
    tokenizer = kba.from_pretrained(path)[0].tokenizer
    assert tokenizer(["a [ENT] film"]).to_list() == [
        [tokenizer.token_to_id(t) for t in ("a", "[ENT]", "film")]
    ]
    assert tokenizer.max_input_chars_per_word == 50


def test_weights_in_parts(pretrained_heads, tmp_path):
    from safetensors.numpy import load_file, save_file

    preprocessor, model = pretrained_heads
    path = kba.save_checkpoint(model, tmp_path / "saved", preprocessor=preprocessor)
    tensors = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[:30], "model-2.safetensors": names[30:]}
    for part, inside in parts.items():
        save_file({name: tensors[name] for name in inside}, path / part)
    index = {"weight_map": {name: part for part, inside in parts.items() for name in inside}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    found = weights_of(kba.from_pretrained(path, head="pretrainer")[1])
    for name, value in weights_of(model).items():
        np.testing.assert_array_equal(found[name], value)
    (path / "model-2.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="names files that are missing: model-2.safetensors"):
        kba.from_pretrained(path)


def test_bfloat16_weights(pretrained_heads, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    preprocessor, model = pretrained_heads
    path = kba.save_checkpoint(model, tmp_path / "saved", preprocessor=preprocessor)
    tensors = load_file(path / "model.safetensors")
    save_file({name: value.to(torch.bfloat16) for name, value in tensors.items()}, path / "model.safetensors")
    found = weights_of(kba.from_pretrained(path, head="pretrainer")[1])
    for name, value in weights_of(model).items():
        np.testing.assert_allclose(found[name], value, rtol=2**-8)


@pytest.mark.parametrize("archive", [True, False])
def test_both_containers_of_torch(archive, pretrained_heads, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from keras_bert_app.checkpoints import huggingface

    monkeypatch.setattr(huggingface, "MAPPED_BYTES", 100)  # the file is opened often
    from safetensors.torch import load_file

    preprocessor, model = pretrained_heads
    path = kba.save_checkpoint(model, tmp_path / "saved", preprocessor=preprocessor)
    tensors = load_file(path / "model.safetensors")
    torch.save(tensors, path / "pytorch_model.bin", _use_new_zipfile_serialization=archive)
    (path / "model.safetensors").unlink()
    found = weights_of(kba.from_pretrained(path, head="pretrainer")[1])
    for name, value in weights_of(model).items():
        np.testing.assert_array_equal(found[name], value)


def test_pickled_weights(pretrained_heads, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    preprocessor, model = pretrained_heads
    path = kba.save_checkpoint(model, tmp_path / "saved", preprocessor=preprocessor)
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    code = """
import sys
class NoTorch:
    def find_spec(self, name, *args):
        if name == "torch":
            raise ImportError(name)
sys.meta_path.insert(0, NoTorch())
import keras_bert_app as kba
try:
    kba.from_pretrained(sys.argv[1])
except ModuleNotFoundError as error:
    print(error)
"""
    done = run_python(code, path)
    assert "can be read by torch only, which is not installed: convert it where torch" in done.stdout, done
    torch.save(
        {"bert.embeddings.word_embeddings.weight": torch.zeros((61, 10), dtype=torch.int8)},
        path / "pytorch_model.bin",
    )
    assert (
        kba.open_checkpoint(path).tensors.read("embeddings.word_embeddings.weight").dtype == "int8"
    )  # refused by `fill`
    torch.save([1, 2], path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds no tensors by their names"):
        kba.from_pretrained(path)
    torch.save({"x": print}, path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="is damaged, or no file of weights alone"):
        kba.from_pretrained(path)


def test_an_old_torch_is_refused(pretrained_heads, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    preprocessor, model = pretrained_heads
    path = kba.save_checkpoint(model, tmp_path / "saved", preprocessor=preprocessor)
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(ModuleNotFoundError, match=r"torch 2.5.1\+cpu may run code .* install torch 2.10"):
        kba.from_pretrained(path)


@pytest.mark.filterwarnings(UNSAID)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_lora_is_merged(policy, pretrained, tmp_path):
    preprocessor, encoder = kba.from_pretrained(pretrained, dtype=policy)
    before = weights_of(encoder)
    kba.enable_lora(encoder, rank=3, alpha=6)
    random = np.random.default_rng(0)
    for variable in encoder.weights:
        if "lora" in variable.path:
            variable.assign(random.normal(0, 0.3, variable.shape))
    now = weights_of(encoder)
    for format in FORMATS if policy == "float32" else ["huggingface"]:
        path = kba.save_checkpoint(encoder, tmp_path / format, format, preprocessor)
        found = weights_of(kba.from_pretrained(path, dtype="float32")[1])
        assert found.keys() == before.keys()
        for name, value in found.items():
            a, b = (now.get(name.replace("/kernel", f"/lora_kernel_{part}")) for part in "ab")
            expected = before[name] + (2 * a @ b if name.endswith("/kernel") and a is not None else 0)
            np.testing.assert_allclose(value, expected, atol=1e-6, err_msg=name)
    assert any("lora" in variable.path for variable in encoder.weights)  # it can be trained on


@pytest.mark.filterwarnings(UNSAID, LEFT_OUT)
@pytest.mark.parametrize(
    "source", [{"lowercase": False, "strip_accents": True}, {"special_tokens": ["film"]}]
)
@pytest.mark.parametrize("format", FORMATS)
def test_rules_of_tokenizers(format, source, pretrained_heads, tmp_path):
    preprocessor, model = pretrained_heads
    tokenizer = kba.BertTokenizer(list(preprocessor.tokenizer.vocabulary), **source)
    path = kba.save_checkpoint(model, tmp_path / "saved", format, preprocessor.replace(tokenizer=tokenizer))
    handles = (
        [path, (path / "preprocess", path / "encoder"), path / "encoder"] if format == "tfhub" else [path]
    )
    for handle in handles:
        read = kba.from_pretrained(handle)[0].tokenizer
        strip = read.lowercase if read.strip_accents is None else read.strip_accents
        assert (read.lowercase, strip) == (tokenizer.lowercase, source.get("strip_accents", True))
        assert tuple(read.special_tokens) == tokenizer.special_tokens


def test_a_tfhub_encoder_alone_knows_its_head(tmp_path, pretrained_heads):
    preprocessor, model = pretrained_heads
    encoder = kba.bert_encoder(kba.BertConfig(61, 10, 3, 2, 37, "gelu_new", max_position_embeddings=32))
    head = kba.pretrainer(encoder, ["masked_lm"], activation="gelu", epsilon=1e-5)
    with pytest.warns(UserWarning, match="fresh weights"):
        path = kba.save_checkpoint(head, tmp_path / "saved", "tfhub", preprocessor)
    for handle in (path, path / "encoder", (path / "preprocess", path / "encoder")):
        assert kba.open_checkpoint(handle).mlm_numbers == ("gelu", 1e-5)
    del model


def test_a_model_with_a_layer_of_its_own(pretrained, tmp_path):
    import keras

    _, encoder = kba.from_pretrained(pretrained)
    outputs = keras.layers.Dense(3, name="mine")(encoder.output["pooled_output"])
    with pytest.raises(ValueError, match="the model has the variable mine/kernel, for which no format"):
        kba.save_checkpoint(keras.Model(encoder.input, outputs), tmp_path / "x")


@pytest.mark.slow
@pytest.mark.filterwarnings(UNSAID)
def test_every_weight_of_minilm_survives(tmp_path):
    source, steps = data_file("minilm"), ["google", "keras_hub", "huggingface"]
    for number, format in enumerate(steps):
        assert kba.convert(source, tmp_path / str(number), format).largest == 0
        source = tmp_path / str(number)
    preprocessor, encoder = kba.from_pretrained(source)
    expected, reference = kba.from_pretrained(data_file("minilm"))
    texts = ["Café in ZÜRICH, ÀÉÎ…", "中国 大学", "[MASK] (almost) 3.14", "\u200bquiet\ufffd"]
    assert preprocessor.tokenizer(texts).to_list() == expected.tokenizer(texts).to_list()
    assert preprocessor.tokenizer.vocabulary == expected.tokenizer.vocabulary
    for ours, theirs in zip(encoder.weights, reference.weights, strict=True):
        if "seed" not in ours.path:
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.filterwarnings(UNSAID, LEFT_OUT)
@pytest.mark.parametrize("format", FORMATS)
def test_minilm_keeps_what_it_knows(format, tmp_path):
    """Spearman's correlation of cosines with people's judgement, STS-B dev: 0.8672 with the source."""
    import csv
    import gzip

    import pandas

    path = data_file("glue/STS-B/dev.tsv.gz")
    kba.convert(data_file("minilm"), tmp_path / "minilm", format)
    preprocessor, encoder = kba.from_pretrained(tmp_path / "minilm", sequence_length=128)
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="\n") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    vectors = [
        embed(preprocessor, encoder, [row[name] for row in rows]) for name in ("sentence1", "sentence2")
    ]
    cosines = (vectors[0] * vectors[1]).sum(axis=1)
    scores = [float(row["score"]) for row in rows]
    correlation = np.corrcoef(pandas.Series(cosines).rank(), pandas.Series(scores).rank())[0, 1]
    assert abs(100 * correlation - 86.7) <= 0.1


def embed(preprocessor, encoder, texts):
    """The mean of all pieces of each text, of length 1."""
    import tensorflow as tf

    step = tf.function(lambda inputs: encoder(inputs)["sequence_output"], reduce_retracing=True)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    found = np.empty((len(texts), 384), "float32")
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        inputs = preprocessor([texts[row] for row in rows])
        mask = np.asarray(inputs["input_mask"])[..., None]
        mean = (np.asarray(step(inputs)) * mask).sum(axis=1) / mask.sum(axis=1)
        found[rows] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return found


def test_half_the_size(pretrained, tmp_path):
    from safetensors.numpy import load_file

    preprocessor, encoder = kba.from_pretrained(pretrained)
    kba.save_checkpoint(encoder, tmp_path / "half", preprocessor=preprocessor, dtype="float16")
    assert {str(value.dtype) for value in load_file(tmp_path / "half" / "model.safetensors").values()} == {
        "float16"
    }
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "float16"
    read = kba.from_pretrained(tmp_path / "half")[1]
    for ours, theirs in zip(read.weights, encoder.weights, strict=True):
        assert ours.dtype == "float32"
        np.testing.assert_array_equal(ours, np.array(theirs).astype("float16").astype("float32"))
    report = kba.convert(pretrained, tmp_path / "again", tolerance=0.1, dtype="float16")
    assert 0 < report.largest < 0.1
    for options in ({"dtype": "int8"}, {"dtype": "float16", "format": "google"}):
        with pytest.raises(ValueError, match="dtype='.*': float32, or in a Hugging Face folder float16"):
            kba.save_checkpoint(encoder, tmp_path / "other", preprocessor=preprocessor, **options)
