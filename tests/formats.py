"""One small BERT with all heads in the format of every project, written without the package's tables."""

import json
import warnings

import numpy as np
from conftest import CONFIG, VOCABULARY
from oracle import random_tensors

HEADS = 2
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
GOOGLE_CONFIG = {name: value for name, value in CONFIG.items() if name != "model_type"} | {
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "type_vocab_size": 2,
}


def pretraining_tensors(seed=0):
    """Tensors of an encoder and both pretraining heads by Hugging Face's names, without prefix."""
    random, hidden = np.random.default_rng(seed + 1), CONFIG["hidden_size"]
    shapes = {
        "cls.predictions.transform.dense.weight": (hidden, hidden),
        "cls.predictions.transform.dense.bias": (hidden,),
        "cls.predictions.transform.LayerNorm.weight": (hidden,),
        "cls.predictions.transform.LayerNorm.bias": (hidden,),
        "cls.predictions.bias": (CONFIG["vocab_size"],),
        "cls.seq_relationship.weight": (2, hidden),
        "cls.seq_relationship.bias": (2,),
    }
    heads = {name: random.normal(0, 0.3, shape).astype("float32") for name, shape in shapes.items()}
    return random_tensors(seed) | heads


def huggingface_names(tensors):
    """The same with the prefix that a model with heads has."""
    return {name if name.startswith("cls.") else f"bert.{name}": value for name, value in tensors.items()}


def google_names(tensors):
    """The same by the names of google-research/bert, with its layouts."""
    found = {}
    for name, value in tensors.items():
        kernel = name.endswith("weight") and value.ndim == 2 and "embeddings" not in name
        name = name.replace("encoder.layer.", "encoder.layer_")
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        name = name.replace("_embeddings.weight", "_embeddings").replace(".weight", ".kernel")
        name = name.replace(".", "/")
        name = name.replace("predictions/bias", "predictions/output_bias")
        name = name.replace("seq_relationship/kernel", "seq_relationship/output_weights")
        name = name.replace("seq_relationship/bias", "seq_relationship/output_bias")
        name = name if name.startswith("cls/") else f"bert/{name}"
        found[name] = value.T if kernel and "seq_relationship" not in name else value
    return found


def split_heads(name, value):
    """An attention's kernel or bias, by its name in google-research/bert, with its heads apart."""
    if "/attention/self/" in name:
        return value.reshape(*value.shape[:-1], HEADS, -1)
    if name.endswith("/attention/output/dense/kernel"):
        return value.reshape(HEADS, -1, value.shape[-1])
    return value


def model_garden_names(tensors, layer, fixed):
    """The same by the names of the Model Garden.

    Args:
        layer: format of a block's name.
        fixed: dict from names of google-research/bert, of what is in no block.
    """
    parts = {
        "attention/self/query": "_attention_layer/_query_dense",
        "attention/self/key": "_attention_layer/_key_dense",
        "attention/self/value": "_attention_layer/_value_dense",
        "attention/output/dense": "_attention_layer/_output_dense",
        "attention/output/LayerNorm": "_attention_layer_norm",
        "intermediate/dense": "_intermediate_dense",
        "output/dense": "_output_dense",
        "output/LayerNorm": "_output_layer_norm",
    }
    found = {}
    for name, value in google_names(tensors).items():
        value = split_heads(name, value)
        if name.startswith("bert/encoder/layer_"):
            number, rest = name.removeprefix("bert/encoder/layer_").split("/", 1)
            part, last = rest.rsplit("/", 1)
            found[f"{layer.format(int(number), int(number) + 4)}/{parts[part]}/{last}"] = value
        else:
            new = next((new for old, new in fixed.items() if name == old or name.startswith(f"{old}/")), None)
            if new is None:
                continue
            old = next(old for old in fixed if name == old or name.startswith(f"{old}/"))
            value = value.T if name.endswith("seq_relationship/output_weights") else value
            found[new + name.removeprefix(old)] = value
    return {f"{name}{SUFFIX}": value for name, value in found.items()} | {
        f"save_counter{SUFFIX}": np.int64(1)
    }


MODEL_GARDEN = {
    "bert/embeddings/word_embeddings": "encoder/layer_with_weights-0/embeddings",
    "bert/embeddings/position_embeddings": "encoder/layer_with_weights-1/embeddings",
    "bert/embeddings/token_type_embeddings": "encoder/layer_with_weights-2/embeddings",
    "bert/embeddings/LayerNorm": "encoder/layer_with_weights-3",
    "bert/pooler/dense": "encoder/layer_with_weights-7",
}
MODEL_GARDEN_PRETRAINER = MODEL_GARDEN | {
    "bert/embeddings/word_embeddings": "masked_lm/embedding_table",
    "bert/pooler/dense": "next_sentence..pooler_dense",
    "cls/predictions/transform/dense": "masked_lm/dense",
    "cls/predictions/transform/LayerNorm": "masked_lm/layer_norm",
    "cls/predictions/output_bias": "masked_lm/output_bias.Sbias",
    "cls/seq_relationship/output_weights": "model/classification_heads/0/out_proj/kernel",
    "cls/seq_relationship/output_bias": "model/classification_heads/0/out_proj/bias",
}
MODEL_GARDEN_V2 = {
    "bert/embeddings/word_embeddings": "encoder/_embedding_layer/embeddings",
    "bert/embeddings/position_embeddings": "encoder/_position_embedding_layer/embeddings",
    "bert/embeddings/token_type_embeddings": "encoder/_type_embedding_layer/embeddings",
    "bert/embeddings/LayerNorm": "encoder/_embedding_norm_layer",
    "bert/pooler/dense": "encoder/_pooler_layer",
}


def write_tensorflow(folder, tensors, prefix="bert_model.ckpt", config=None):
    """A TensorFlow checkpoint with `bert_config.json` and `vocab.txt`; returns the folder."""
    import tensorflow as tf

    folder.mkdir(parents=True, exist_ok=True)
    tf.raw_ops.SaveV2(
        prefix=str(folder / prefix),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    (folder / "bert_config.json").write_text(json.dumps(config or GOOGLE_CONFIG))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    return folder


def write_google(folder, tensors=None):
    """A checkpoint of google-research/bert with both pretraining heads."""
    tensors = google_names(pretraining_tensors() if tensors is None else tensors)
    slots = {f"{name}/adam_m": value for name, value in tensors.items()}
    return write_tensorflow(folder, tensors | slots | {"global_step": np.int64(7)})


def write_model_garden(folder, kind):
    """A checkpoint of the Model Garden: `"encoder"`, `"encoder_v2"` or `"pretrainer"`."""
    layer, fixed = {
        "encoder": ("encoder/layer_with_weights-{1}", MODEL_GARDEN),
        "encoder_v2": ("encoder/_transformer_layers/{0}", MODEL_GARDEN_V2),
        "pretrainer": ("encoder/layer_with_weights-{1}", MODEL_GARDEN_PRETRAINER),
    }[kind]
    tensors = model_garden_names(pretraining_tensors(), layer, fixed)
    if kind == "pretrainer":  # an untrained pooler
        tensors |= {
            f"encoder/layer_with_weights-7/kernel{SUFFIX}": np.zeros((10, 10), "float32"),
            f"encoder/layer_with_weights-7/bias{SUFFIX}": np.zeros(10, "float32"),
        }
    return write_tensorflow(folder, tensors, "bert_model.ckpt-1")


TFHUB = {
    "bert/embeddings/word_embeddings": "word_embeddings/embeddings",
    "bert/embeddings/position_embeddings": "position_embedding/embeddings",
    "bert/embeddings/token_type_embeddings": "type_embeddings/embeddings",
    "bert/embeddings/LayerNorm": "embeddings/layer_norm",
    "bert/pooler/dense": "pooler_transform",
    "cls/predictions/transform/dense": "bert/cls/predictions/transform/dense",
    "cls/predictions/transform/LayerNorm": "bert/cls/predictions/transform/LayerNorm",
    "cls/predictions/output_bias": "bert/cls/predictions/output_bias/bias",
}
TFHUB_PARTS = {
    "_attention_layer/_query_dense": "self_attention/query",
    "_attention_layer/_key_dense": "self_attention/key",
    "_attention_layer/_value_dense": "self_attention/value",
    "_attention_layer/_output_dense": "self_attention/attention_output",
    "_attention_layer_norm": "self_attention_layer_norm",
    "_output_layer_norm": "output_layer_norm",
    "_intermediate_dense": "intermediate",
    "_output_dense": "output",
}


def write_tfhub(folder, activation="gelu_new", epsilon=1e-12):
    """A SavedModel with the variables of a TF-Hub encoder, and a graph that has their numbers."""
    import tensorflow as tf

    root = tf.__internal__.tracking.AutoTrackable()
    root.variables = []
    named = model_garden_names(pretraining_tensors(), "transformer/layer_{0}", TFHUB)
    for name, value in named.items():
        name = name.removesuffix(SUFFIX)
        if name == "save_counter":
            continue
        for old, new in TFHUB_PARTS.items():
            name = name.replace(f"/{old}/", f"/{new}/") if "transformer/" in name else name
        root.variables.append(tf.Variable(value, name=name))
    root.do_lower_case = tf.Variable(True, trainable=False)
    functions = {
        "gelu_new": lambda x: 0.5 * x * (1 + tf.tanh(0.79788456 * (x + 0.044715 * x**3))),
        "gelu": lambda x: 0.5 * x * (1 + tf.math.erf(x / 2**0.5)),
    }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def call(x):
        with tf.name_scope("batchnorm"), tf.name_scope("add"):
            small = tf.constant(epsilon, name="y")
        return functions[activation](x) + small

    root.__call__ = call
    folder.mkdir(parents=True)
    vocabulary = folder.parent / "vocab.txt"
    vocabulary.write_text("".join(f"{token}\n" for token in VOCABULARY))
    root.vocab_file = tf.saved_model.Asset(str(vocabulary))
    tf.saved_model.save(root, str(folder))
    return folder


def write_keras_hub(folder):
    """A KerasHub preset of a masked language model, by KerasHub itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`build\\(\\)` was called")  # KerasHub 0.31, of its own models
        return _write_keras_hub(folder)


def _write_keras_hub(folder):
    import keras_hub

    google = {name: split_heads(name, v) for name, v in google_names(pretraining_tensors()).items()}
    tokenizer = keras_hub.models.BertTokenizer(VOCABULARY, lowercase=True)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=61, num_layers=3, num_heads=HEADS, hidden_dim=10, intermediate_dim=37,
        max_sequence_length=32,
    )  # fmt: skip
    model = keras_hub.models.BertMaskedLM(
        backbone, keras_hub.models.BertMaskedLMPreprocessor(tokenizer, sequence_length=32)
    )
    ours = {
        "token_embedding": "bert/embeddings/word_embeddings",
        "position_embedding": "bert/embeddings/position_embeddings",
        "segment_embedding": "bert/embeddings/token_type_embeddings",
        "embeddings_layer_norm": "bert/embeddings/LayerNorm",
        "pooled_dense": "bert/pooler/dense",
        "mlm_head/intermediate_dense": "cls/predictions/transform/dense",
        "mlm_head/intermediate_layer_norm": "cls/predictions/transform/LayerNorm",
        "mlm_head/output_bias": "cls/predictions/output_bias",
        "self_attention_layer/query": "attention/self/query",
        "self_attention_layer/key": "attention/self/key",
        "self_attention_layer/value": "attention/self/value",
        "self_attention_layer/attention_output": "attention/output/dense",
        "self_attention_layer_norm": "attention/output/LayerNorm",
        "feedforward_layer_norm": "output/LayerNorm",
        "feedforward_intermediate_dense": "intermediate/dense",
        "feedforward_output_dense": "output/dense",
    }
    for variable in model.weights:
        path = variable.path.removeprefix("bert_backbone/").removesuffix("/embeddings")
        for index in range(3):
            path = path.replace(f"transformer_layer_{index}/", f"bert/encoder/layer_{index}/")
        for old, new in sorted(ours.items(), key=lambda row: -len(row[0])):
            path = path.replace(old, new) if "/" + old + "/" in f"/{path}/" else path
        variable.assign(google[path])
    model.save_to_preset(folder)
    return folder
