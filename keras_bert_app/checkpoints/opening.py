"""Find out which format a folder is in, and open it."""

import dataclasses
from pathlib import Path

from keras_bert_app.checkpoints import (
    google,
    huggingface,
    keras_hub,
    model_garden,
    sentence_transformers,
    tensorflow_files,
    tfhub,
    tokenizers,
)

# What a note may say, beside `config` and `tokenizer`, and what of a tokenizer.
NOTE = "keras_bert_app.json"
NOTED = ("labels", "problem_type", "mlm_activation", "mlm_epsilon")
TOKENIZER = ("lowercase", "strip_accents", "max_input_chars_per_word", "special_tokens")


def open_folder(path, note=True):
    """The checkpoint in a folder.

    Args:
        path: the folder, or the prefix of a TensorFlow checkpoint.
        note: False to leave out what this package noted because the format has no place for it,
            as other programs do.

    Returns:
        `Checkpoint`.

    Raises:
        FileNotFoundError: there is no such folder, or no checkpoint in it.
        ValueError: a file in it is damaged or not supported.
    """
    path = sentence_transformers.bert_folder(Path(path))
    checkpoint = _open(path)
    if note and (path / NOTE).is_file():
        noted = tokenizers.read_json(path / NOTE)
        checkpoint = _with_note(checkpoint, noted, path / NOTE)
    return checkpoint


def _open(path):
    if (path / "encoder" / "saved_model.pb").is_file():
        preprocess = path / "preprocess"
        return tfhub.read(path / "encoder", preprocess if preprocess.is_dir() else None)
    if (path / "saved_model.pb").is_file():
        return tfhub.read(path)
    if (path / "config.json").is_file():
        values = tokenizers.read_json(path / "config.json")
        if keras_hub.is_preset(values):
            return keras_hub.read(path)
        if huggingface.has_weights(path):
            return huggingface.read(path)
    prefix = tensorflow_files.find_prefix(path)
    if prefix is not None:
        tensors, _ = tensorflow_files.open_tensors(prefix)
        is_google = any(name.startswith("bert/") for name in tensors.shapes)
        return (google if is_google else model_garden).read(prefix, tensors)
    if (path / "config.json").is_file():
        return huggingface.read(path)
    if path.is_file():
        raise FileNotFoundError(
            f"{path} is a file: give its folder {path.parent}, or the prefix of a checkpoint"
        )
    there = ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing"
    raise FileNotFoundError(
        f"{path} holds no checkpoint: there is {there}. Give a folder with config.json (Hugging Face, "
        "KerasHub), saved_model.pb (TF-Hub) or a .ckpt.index (Google, Model Garden)"
    )


def _with_note(checkpoint, noted, path):
    """The checkpoint with what this package noted beside it."""
    config, tokenizer = noted.pop("config", {}), noted.pop("tokenizer", {})
    if not set(noted) <= set(NOTED) or not isinstance(config, dict) or not set(tokenizer) <= set(TOKENIZER):
        raise ValueError(f"{path} is damaged: remove it, or convert the checkpoint again")
    kinds = {"labels": list, "mlm_epsilon": float}
    for name, value in noted.items():
        if not isinstance(value, kinds.get(name, str)):
            raise ValueError(
                f"{path} is damaged: {name}={value!r}. Remove it, or convert the checkpoint again"
            )
    try:
        noted["config"] = dataclasses.replace(checkpoint.config, **config)
    except TypeError as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove it, or convert the checkpoint again"
        ) from error
    if checkpoint.tokenizer:
        noted["tokenizer"] = {**checkpoint.tokenizer, **tokenizer}
    return dataclasses.replace(checkpoint, **noted)
