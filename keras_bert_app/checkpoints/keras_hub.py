"""Read and write a KerasHub preset: `config.json`, `model.weights.h5`, `tokenizer.json` and its assets."""

import warnings
from pathlib import Path

from keras_bert_app.checkpoints import names, tokenizers, writing
from keras_bert_app.checkpoints.checkpoint import Checkpoint, Tensors
from keras_bert_app.config import BertConfig

FORMAT = "keras_hub"
HEADS = ("masked_lm", "text_classifier")
BACKBONE = "BertBackbone"
# What keras-hub's code says, and no file: src/models/bert/bert_backbone.py and bert_masked_lm.py.
ACTIVATION, EPSILON = "gelu_new", 1e-12
MLM_ACTIVATION, MLM_EPSILON = "gelu", 1e-5
MAX_ITEMS = 20_000


def is_preset(values):
    """True if `values`, those of a `config.json`, are a KerasHub preset's."""
    return "class_name" in values and "config" in values


def read(folder):
    """What a KerasHub preset holds.

    Args:
        folder: holds `config.json` and `model.weights.h5`; with a head `task.json` and
            `task.weights.h5`; with a tokenizer `tokenizer.json` and `assets/tokenizer/vocabulary.txt`.

    Returns:
        `Checkpoint`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or not supported.
    """
    folder = Path(folder)
    values = tokenizers.read_json(folder / "config.json")
    if values["class_name"] != BACKBONE:
        raise ValueError(f"{folder} is a preset of {values['class_name']}: only {BACKBONE} is supported")
    given = values["config"]
    try:
        config = BertConfig(
            vocab_size=given["vocabulary_size"],
            hidden_size=given["hidden_dim"],
            num_hidden_layers=given["num_layers"],
            num_attention_heads=given["num_heads"],
            intermediate_size=given["intermediate_dim"],
            hidden_act=ACTIVATION,
            hidden_dropout_prob=given.get("dropout", 0.1),
            attention_probs_dropout_prob=given.get("dropout", 0.1),
            max_position_embeddings=given.get("max_sequence_length", 512),
            type_vocab_size=given.get("num_segments", 2),
            layer_norm_eps=EPSILON,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'} is damaged: it lacks {error}") from error
    path = folder / "model.weights.h5"
    shapes, read_array = _open(path)
    reading = {name: (read_array, name) for name in shapes}
    if (folder / "task.weights.h5").is_file():
        head, read_head = _open(folder / "task.weights.h5")
        shapes |= {f"task/{name}": shape for name, shape in head.items()}
        reading |= {f"task/{name}": (read_head, name) for name in head}

    def read_tensor(name):
        read_own, own_name = reading[name]
        return read_own(own_name)

    return Checkpoint(
        format=FORMAT,
        config=config,
        tokenizer=_tokenizer(folder),
        tensors=Tensors(path, shapes, read_tensor),
        names=names.KERAS_HUB.names(config.num_hidden_layers),
        leftovers=names.KERAS_HUB.leftovers,
        mlm_activation=MLM_ACTIVATION,
        mlm_epsilon=MLM_EPSILON,
        problem_type=_problem_type(folder),
    )


def _problem_type(folder):
    """What the activation of a classifier says that it is for, in the words of Hugging Face; or None."""
    path = folder / "task.json"
    activation = tokenizers.read_json(path).get("config", {}).get("activation") if path.is_file() else None
    name = activation.get("config") if isinstance(activation, dict) else activation
    return "multi_label_classification" if name == "sigmoid" else None


def _open(path):
    """The shapes of the arrays in an HDF5 file, by their names, and a function that reads one."""
    import h5py

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: a KerasHub preset holds its weights there")
    found, visited = {}, []

    def visit(group, prefix):
        for name in group:
            visited.append(name)
            if len(visited) > MAX_ITEMS:  # links can make few objects many
                raise ValueError(f"{path} has more than {MAX_ITEMS:,} items: it is no preset of a BERT")
            link = group.get(name, getlink=True)
            item = group[name] if isinstance(link, h5py.HardLink) else None
            # Links and arrays in other files would let a preset read any file of its reader's.
            if item is None or (isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)):
                raise ValueError(f"{path}: {prefix}{name} is kept elsewhere, which is not supported")
            if isinstance(item, h5py.Group):
                visit(item, f"{prefix}{name}/")
            else:
                found[prefix + name] = item.shape

    def read_array(name):
        with h5py.File(path, "r") as file:
            value = file[name][()]
            if file[name].attrs.get("dtype") == "bfloat16":  # Keras keeps its bytes
                import ml_dtypes

                value = value.view(ml_dtypes.bfloat16)
            return value

    try:
        with h5py.File(path, "r") as file:
            visit(file, "")
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): get it again") from error
    return found, read_array


def _tokenizer(folder):
    """The arguments of `BertTokenizer`, or None if the preset has no tokenizer."""
    path = folder / "assets" / "tokenizer" / "vocabulary.txt"
    if not path.is_file():
        return None
    options = {}
    if (folder / "tokenizer.json").is_file():
        options = tokenizers.read_json(folder / "tokenizer.json").get("config") or {}
    return {
        "vocabulary": path,
        "lowercase": bool(options.get("lowercase", False)),  # the defaults of keras-hub's BertTokenizer
        "strip_accents": bool(options.get("strip_accents", False)),
    }


def write(model, config, folder, preprocessor=None, labels=None):
    """Writes a preset to an existing folder, by KerasHub itself.

    Args:
        model: an encoder, or a model with a head.
        config: `BertConfig` of the model.
        folder: where to.
        preprocessor: `BertPreprocessor`, or None to write no tokenizer.
        labels: not used: the format has no place for them.
    """
    import h5py
    import keras_hub

    hub = keras_hub.models
    backbone = hub.BertBackbone(
        vocabulary_size=config.vocab_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        hidden_dim=config.hidden_size,
        intermediate_dim=config.intermediate_size,
        dropout=config.hidden_dropout_prob,
        max_sequence_length=config.max_position_embeddings,
        num_segments=config.type_vocab_size,
        dtype="float32",
    )
    heads = [head for head in writing.heads_of(model) if head in HEADS]
    task, kind = backbone, "TextClassifier"
    if heads == ["masked_lm"]:
        task, kind = hub.BertMaskedLM(backbone), "MaskedLM"
    elif heads:
        task = hub.BertTextClassifier(backbone, num_classes=writing.num_classes_of(model))
    if preprocessor is not None:
        ours = preprocessor.tokenizer
        tokenizer = hub.BertTokenizer(
            vocabulary=list(ours.vocabulary),
            lowercase=ours.lowercase,
            strip_accents=ours.lowercase if ours.strip_accents is None else ours.strip_accents,
        )
        make = getattr(hub, f"Bert{kind}Preprocessor")
        task.preprocessor = make(tokenizer, sequence_length=preprocessor.sequence_length)
        task.preprocessor.save_to_preset(folder)
    task.save_to_preset(folder)
    skip = [head for head in writing.heads_of(model) if head not in HEADS]
    if not any(variable.path.startswith("pooler/") for variable in model.weights):
        warnings.warn("the model has no pooler: that of the preset has fresh weights", stacklevel=4)
    with h5py.File(folder / "model.weights.h5", "r+") as weights:  # fresh ones, so far
        for name, value in writing.stored(model, names.KERAS_HUB, config, skip):
            if not name.startswith("task/"):
                weights[name][...] = value
    if heads:
        with h5py.File(folder / "task.weights.h5", "r+") as weights:
            for name, value in writing.stored(model, names.KERAS_HUB, config, skip):
                if name.startswith("task/"):
                    weights[name.removeprefix("task/")][...] = value
