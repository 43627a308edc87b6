"""Write a model as a checkpoint of another project."""

import dataclasses
import importlib
import warnings
from pathlib import Path

from keras_bert_app import files
from keras_bert_app.checkpoints import opening, tokenizers, writing
from keras_bert_app.encoder import encoder_config
from keras_bert_app.heads import mlm_numbers

# Each format's module, which has `HEADS`, those that it has a place for, and `write`.
FORMATS = {
    "huggingface": "huggingface_export",
    "tfhub": "tfhub_export",
    "keras_hub": "keras_hub",
    "google": "google",
}
DTYPES = ("float32", "float16")


def save_checkpoint(
    model,
    folder,
    format="huggingface",
    preprocessor=None,
    labels=None,
    problem_type=None,
    dtype="float32",
):
    """Writes a model as a checkpoint that other programs read.

    What a format has no place for, such as the exact GELU in a KerasHub preset, `keras_bert_app.json`
    beside the weights keeps for `from_pretrained`. A warning names the numbers among it, with
    which other programs compute something else, and the heads that are left out.

    Args:
        model: from `bert_encoder`, `pretrainer`, `text_classifier`, `token_classifier` or
            `span_classifier`. LoRA is written merged into its kernels.
        folder: to be written; must not exist.
        format: `"huggingface"`, a folder for Transformers; `"tfhub"`, two SavedModels, `encoder`
            and `preprocess`, with the interface of TF-Hub's text models; `"keras_hub"`, a preset;
            or `"google"`, a checkpoint for google-research/bert.
        preprocessor: `BertPreprocessor` of the model. None leaves out vocabulary and tokenizer,
            which a TF-Hub pair must have.
        labels: the labels of a classifier, in the order of its outputs.
        problem_type: what a classifier is for, in the words of Hugging Face:
            `"single_label_classification"`, `"multi_label_classification"` or `"regression"`.
        dtype: of the weights in the file: `"float32"`, or `"float16"` for half the size, only in a
            Hugging Face folder.

    Returns:
        Path of `folder`.

    Raises:
        ValueError: there is no such format, or it cannot hold the model or the `dtype`.
        FileExistsError: `folder` exists.
        OSError: it cannot be written.

    Example:

    ```python
    preprocessor, encoder = kba.from_pretrained("all-MiniLM-L6-v2")
    kba.save_checkpoint(encoder, "minilm-hub", "tfhub", preprocessor)
    ```
    """
    kept = heads_of_format(format)
    config = encoder_config(model)
    if preprocessor is not None and preprocessor.tokenizer.vocabulary_size > config.vocab_size:
        raise ValueError(
            f"the preprocessor has {preprocessor.tokenizer.vocabulary_size} tokens, the model "
            f"{config.vocab_size}: they do not belong together"
        )
    if preprocessor is None and format == "tfhub":
        raise ValueError("a TF-Hub pair has a preprocessing model: give the preprocessor")
    if dtype not in DTYPES or (dtype != "float32" and format != "huggingface"):
        raise ValueError(f"dtype={dtype!r}: float32, or in a Hugging Face folder float16")
    options = {} if dtype == "float32" else {"dtype": dtype}
    writing.check_variables(model, config)
    num_classes = writing.num_classes_of(model)
    if labels is not None and len(labels) != num_classes:
        raise ValueError(f"{len(labels)} labels for {num_classes} outputs: give one for each")
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists: choose another folder, or remove it")
    left_out = [head for head in writing.heads_of(model) if head not in kept]
    if left_out:
        warnings.warn(f"{format} has no place for {', '.join(left_out)}: left out", stacklevel=2)
    with files.whole(folder) as temporary:
        temporary.mkdir()
        _module(format).write(model, config, temporary, preprocessor, labels, **options)
        if problem_type is not None and format == "huggingface":
            values = {**tokenizers.read_json(temporary / "config.json"), "problem_type": problem_type}
            files.write_json(temporary / "config.json", values)
        _write_note(model, config, temporary, preprocessor, labels, problem_type)
    return folder


def heads_of_format(format):
    """The heads that a format has a place for.

    Raises:
        ValueError: there is no such format.
    """
    if format not in FORMATS:
        raise ValueError(f"format={format!r}: one of {', '.join(FORMATS)}")
    return _module(format).HEADS


def _module(format):
    return importlib.import_module(f"keras_bert_app.checkpoints.{FORMATS[format]}")


def _write_note(model, config, folder, preprocessor, labels, problem_type):
    """Notes what the format has no place for, and warns of what other programs will get wrong."""
    found = opening.open_folder(folder)
    ours, theirs = dataclasses.asdict(config), dataclasses.asdict(found.config)
    note = {"config": {name: ours[name] for name in ours if ours[name] != theirs[name]}}
    if "masked_lm" in found.heads:
        pairs = zip(("mlm_activation", "mlm_epsilon"), mlm_numbers(model), found.mlm_numbers, strict=True)
        note |= {name: value for name, value, other in pairs if value != other}
    if labels is not None and found.labels != list(labels):
        note["labels"] = list(labels)
    if problem_type is not None and found.problem_type != problem_type:
        note["problem_type"] = problem_type
    if preprocessor is not None:
        from keras_bert_app.preprocessing.tokenizer import BertTokenizer  # needs TensorFlow

        ours, read = map(_rules, (preprocessor.tokenizer, BertTokenizer(**found.tokenizer)))
        if ours["lowercase"] != read["lowercase"]:
            read["strip_accents"] = None  # the one follows from the other, if nothing is said
        note["tokenizer"] = {name: ours[name] for name in ours if ours[name] != read[name]}
    note = {name: value for name, value in note.items() if value != {}}
    if note:
        files.write_json(folder / opening.NOTE, note)
    numbers = {**note.get("config", {}), **{k: v for k, v in note.items() if k.startswith("mlm_")}}
    ignored = ("initializer_range", "hidden_dropout_prob", "attention_probs_dropout_prob")
    numbers = {name: value for name, value in numbers.items() if name not in ignored}
    if numbers:
        said = ", ".join(f"{name}={value!r}" for name, value in numbers.items())
        warnings.warn(
            f"this format cannot say {said}: its own programs compute something a little different. "
            f"{opening.NOTE} keeps it for from_pretrained",
            stacklevel=3,
        )


def _rules(tokenizer):
    """What a tokenizer does with text, but for its vocabulary."""
    return {
        **tokenizers.casing(tokenizer.lowercase, tokenizer.strip_accents),
        "max_input_chars_per_word": tokenizer.max_input_chars_per_word,
        "special_tokens": list(tokenizer.special_tokens),
    }
