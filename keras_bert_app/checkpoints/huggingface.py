"""Read a Hugging Face folder: `config.json`, `model.safetensors`, `vocab.txt`."""

import json
import warnings
from pathlib import Path

import numpy as np

from keras_bert_app.checkpoints import names
from keras_bert_app.config import BertConfig
from keras_bert_app.encoder import bert_encoder

# A constant 0, 1, 2, ... that old versions of Transformers wrote with the weights.
CONSTANTS = {"embeddings.position_ids"}

# What the names of an encoder's tensors begin with; all others belong to heads.
ENCODER = ("embeddings.", "encoder.", "pooler.")


def read_encoder(folder, dtype=None):
    """The encoder in a Hugging Face folder.

    Args:
        folder: holds `config.json` and `model.safetensors`.
        dtype: Keras dtype policy, see `bert_encoder`.

    Returns:
        A `keras.Model`, see `bert_encoder`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or config and weights do not belong together.
    """
    folder = Path(folder)
    encoder = bert_encoder(BertConfig.from_json(folder / "config.json"), dtype)
    fill(encoder, folder / "model.safetensors")
    return encoder


def fill(encoder, path):
    """Assigns every variable of `encoder` from the safetensors file `path`.

    Tensors of heads are left alone and named in a warning; so is a pooler that the file
    lacks, as models for tagging and question answering do: it keeps its fresh weights.

    Raises:
        ValueError: the file is damaged, lacks a tensor, or has one of another shape.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: a Hugging Face folder holds its weights there")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {short_name(name): (name, file) for name in file.keys()}  # noqa: SIM118
            values, missing = [], []
            for variable in encoder.weights:
                name, transposed = names.source_name(variable.path, names.HUGGINGFACE)
                if name not in tensors:
                    missing.append((variable.path, name))
                    continue
                full_name, _ = tensors.pop(name)
                value = file.get_tensor(full_name)
                value = value.T if transposed else value
                if value.shape != tuple(variable.shape):
                    raise ValueError(
                        f"{path}: {full_name} has shape {value.shape}, config.json asks for "
                        f"{tuple(variable.shape)} (both as in Keras): they are not of the same model"
                    )
                values.append((variable, value))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): download it again") from error
    pooler = [name for variable, name in missing if variable.startswith("pooler/")]
    others = [name for variable, name in missing if not variable.startswith("pooler/")]
    if others:
        raise ValueError(f"{path} lacks tensors of the encoder: {', '.join(others)}")
    rest = sorted(name for name in tensors if name.startswith(ENCODER) and name not in CONSTANTS)
    if rest:
        raise ValueError(
            f"{path} has tensors of an encoder for which config.json has no place: {', '.join(rest)}"
        )
    for variable, value in values:
        variable.assign(value.astype(np.float32))
    if pooler:
        warnings.warn(f"{path} has no pooler: {', '.join(pooler)} start with fresh weights", stacklevel=3)
    unused = sorted(full_name for name, (full_name, _) in tensors.items() if name not in CONSTANTS)
    if unused:
        warnings.warn(f"{path}: not used by the encoder: {', '.join(unused)}", stacklevel=3)


def short_name(name):
    """A tensor's name without the model's prefix and in today's words for LayerNorm."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def read_tokenizer_options(folder):
    """What the folder says of its tokenizer: the arguments of `BertTokenizer`.

    Args:
        folder: holds `vocab.txt` and, mostly, `tokenizer_config.json`.

    Returns:
        dict with `vocabulary`, the path of `vocab.txt`, `lowercase` and `strip_accents`.
    """
    folder = Path(folder)
    options = {}
    path = folder / "tokenizer_config.json"
    if path.exists():
        try:
            options = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        if not isinstance(options, dict):
            raise ValueError(f"{path} holds no JSON object: it is not the config of a tokenizer")
    if options.get("tokenize_chinese_chars") is False:
        raise ValueError(
            f"{path}: tokenize_chinese_chars=False is not supported: Chinese characters are words"
        )
    return {
        "vocabulary": folder / "vocab.txt",
        "lowercase": options.get("do_lower_case", True),  # Transformers does unless told otherwise
        "strip_accents": options.get("strip_accents"),
    }
