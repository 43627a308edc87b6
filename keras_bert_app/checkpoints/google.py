"""Read and write a checkpoint of google-research/bert: `bert_model.ckpt`, `bert_config.json`, `vocab.txt`."""

from keras_bert_app import files
from keras_bert_app.checkpoints import names, tensorflow_files, tokenizers, writing
from keras_bert_app.checkpoints.checkpoint import Checkpoint
from keras_bert_app.config import BertConfig

FORMAT = "google"
HEADS = ("masked_lm", "next_sentence", "text_classifier", "span_classifier")
PREFIX = "bert_model.ckpt"
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu", "relu": "relu"}  # its "gelu" is the tanh form


def read(prefix, tensors):
    """What a checkpoint of TensorFlow 1 holds.

    Args:
        prefix: path of the checkpoint without `.index`; `bert_config.json` and `vocab.txt` are beside it.
        tensors: its `Tensors`.

    Returns:
        `Checkpoint`.

    Raises:
        FileNotFoundError: there is no `bert_config.json`.
        ValueError: a file is damaged or not supported.
    """
    path = tensorflow_files.beside([prefix.parent], "bert_config.json")
    if path is None:
        raise FileNotFoundError(f"{prefix.parent} has no bert_config.json: put it beside {prefix.name}")
    config = BertConfig.from_json(path)
    vocabulary = tensorflow_files.beside([prefix.parent], "vocab.txt")
    return Checkpoint(
        format=FORMAT,
        config=config,
        tokenizer=vocabulary and tokenizers.from_vocabulary(vocabulary),
        tensors=tensors,
        names=names.GOOGLE.names(config.num_hidden_layers),
        leftovers=names.GOOGLE.leftovers,
    )


def write(model, config, folder, preprocessor=None, labels=None):
    """Writes `bert_model.ckpt`, `bert_config.json` and `vocab.txt` to an existing folder.

    Args:
        model: an encoder, or a model with a head.
        config: `BertConfig` of the model.
        folder: where to.
        preprocessor: `BertPreprocessor`, or None to write no vocabulary.
        labels: not used: the format has no place for them.
    """
    import tensorflow as tf

    skip = [head for head in writing.heads_of(model) if head not in HEADS]
    tensors = dict(writing.stored(model, names.GOOGLE, config, skip))
    tf.raw_ops.SaveV2(
        prefix=str(folder / PREFIX),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{PREFIX}"\n')
    values = config.to_dict()
    values["hidden_act"] = ACTIVATIONS[config.hidden_act]
    for key in ("model_type", "layer_norm_eps"):
        del values[key]
    files.write_json(folder / "bert_config.json", values)
    if preprocessor is not None:
        preprocessor.tokenizer.save_assets(folder)
