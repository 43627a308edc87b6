"""Read a checkpoint of the TensorFlow Model Garden: `official/nlp`, BertEncoder and BertPretrainer."""

import re

from keras_bert_app.checkpoints import names, tensorflow_files, tokenizers
from keras_bert_app.checkpoints.checkpoint import Checkpoint, Tensors
from keras_bert_app.config import BertConfig

FORMAT = "model_garden"
QUERY = "_attention_layer/_query_dense/kernel"
POOLERS = ("next_sentence..pooler_dense", "model/classification_heads/0/dense")


def read(prefix, tensors):
    """What a checkpoint of the Model Garden holds.

    That of a pretraining run has two poolers; the one that was trained, with the next sentence
    head, is the pooler here, and the other is left out.

    Args:
        prefix: path of the checkpoint without `.index`. `bert_config.json`, or a run's
            `params.yaml`, and `vocab.txt` are in its folder or in the one above.
        tensors: its `Tensors`.

    Returns:
        `Checkpoint`.

    Raises:
        FileNotFoundError: there is no config.
        ValueError: it is no checkpoint of BERT, or a file is damaged or not supported.
    """
    config = _read_config(prefix)
    table, root = _find_table(tensors)
    shapes, keys = {}, {}
    for key, shape in tensors.shapes.items():
        rest = key.removeprefix(root)
        name = f"encoder/{rest}" if key.startswith(root) and rest.startswith(("layer_with_w", "_")) else key
        name = name.removeprefix("model/") if name.startswith("model/masked_lm/") else name
        shapes[name], keys[name] = shape, key
    own_pooler = f"encoder/layer_with_weights-{config.num_hidden_layers + 4}"
    if table is names.MODEL_GARDEN_V2:
        own_pooler = "encoder/_pooler_layer"
    trained = next((p for p in POOLERS if any(name.startswith(f"{p}/") for name in shapes)), None)
    leftovers = table.leftovers
    if trained:
        leftovers += f"|{re.escape(own_pooler)}/(kernel|bias)"
    vocabulary = tensorflow_files.beside(prefix.parents[:2], "vocab.txt")
    found = table.names(config.num_hidden_layers, pooler=trained or own_pooler)
    if not trained and not any(name.startswith("masked_lm/") for name in shapes):
        for path in names.HEADS["next_sentence"]:  # a head of the same name, of some other task
            del found[path]
    return Checkpoint(
        format=FORMAT,
        config=config,
        tokenizer=vocabulary and tokenizers.from_vocabulary(vocabulary),
        tensors=Tensors(tensors.path, shapes, lambda name: tensors.read(keys[name])),
        names=found,
        leftovers=leftovers,
    )


def _find_table(tensors):
    """The table of a checkpoint's names, and what the names of its encoder begin with."""
    first = {"layer_with_weights-4/": names.MODEL_GARDEN, "_transformer_layers/0/": names.MODEL_GARDEN_V2}
    for key in tensors.shapes:
        for block, table in first.items():
            if key.endswith(block + QUERY):
                return table, key.removesuffix(block + QUERY)
    raise ValueError(
        f"{tensors.path} is no checkpoint of a BERT: it has neither the names of google-research/bert "
        "nor those of the Model Garden's BertEncoder"
    )


def _read_config(prefix):
    path = tensorflow_files.beside(prefix.parents[:2], "bert_config.json", "params.yaml")
    if path is None:
        raise FileNotFoundError(
            f"{prefix.parent} has neither bert_config.json nor params.yaml: put one beside {prefix.name}"
        )
    if path.suffix == ".json":
        return BertConfig.from_json(path)
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        encoder = values["task"]["model"]["encoder"]
        return BertConfig.from_dict(encoder[encoder.get("type", "bert")])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged, or names no BERT at task.model.encoder.bert ({error})"
        ) from error
