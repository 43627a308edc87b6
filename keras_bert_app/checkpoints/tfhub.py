"""Read a TF-Hub encoder, alone or with its preprocessing model, without running either.

Both are SavedModels, which are programs. Here they are only read: the weights from
`variables/`, all else from `saved_model.pb` and `assets/`.
"""

from pathlib import Path

import numpy as np

from keras_bert_app.checkpoints import names, tensorflow_files, tokenizers
from keras_bert_app.checkpoints.checkpoint import Checkpoint, Tensors
from keras_bert_app.config import BertConfig

FORMAT = "tfhub"
TANH_GELU = 0.044715  # the constant of the tanh approximation
HEAD = "cls/predictions/"  # the masked language model's names begin with that of its model, then this


def read(encoder, preprocess=None):
    """What a TF-Hub encoder holds.

    Args:
        encoder: folder of the encoder's SavedModel.
        preprocess: folder of the preprocessing model's SavedModel, or None: the encoder has a
            vocabulary and knows the casing too.

    Returns:
        `Checkpoint`.

    Raises:
        FileNotFoundError: a part of the SavedModel is missing.
        ValueError: it is damaged, or not that of a BERT.
    """
    folder = Path(encoder)
    prefix = folder / "variables" / "variables"
    if not prefix.with_name("variables.index").is_file():
        raise FileNotFoundError(
            f"{folder} has no variables/variables.index: it is no SavedModel of an encoder"
        )
    by_key, full_names = tensorflow_files.open_tensors(prefix)
    keys = {_name(key, full_names.get(key)): key for key in by_key.shapes}
    tensors = Tensors(
        prefix, {name: by_key.shapes[key] for name, key in keys.items()}, lambda name: by_key.read(keys[name])
    )
    table, path, head = names.TFHUB, folder / "assets" / "bert_config.json", {}
    if path.is_file():  # this package wrote it
        table, config = names.KERAS_BERT_APP, BertConfig.from_json(path)
        values = tokenizers.read_json(path.with_name("mlm_config.json"))
        head = {name: values.get(name) for name in ("mlm_activation", "mlm_epsilon")}
    else:
        config = _config(folder, tensors.shapes)
    lowercase = bool(tensors.read("do_lower_case")) if "do_lower_case" in tensors.shapes else None
    sequence_length, tokenizer = None, _tokenizer(folder, lowercase)
    if preprocess is not None:
        graph = _read_graph(Path(preprocess))
        sequence_length = _sequence_length(graph)
        if lowercase is None:  # an encoder without the variable
            operations = {node.op for node in _nodes(graph)}
            # What this one does is in its data; then the vocabulary tells.
            lowercase = None if "FastBertNormalize" in operations else "CaseFoldUTF8" in operations
        tokenizer = _tokenizer(Path(preprocess), lowercase) or tokenizer
    return Checkpoint(
        format=FORMAT,
        config=config,
        tokenizer=tokenizer,
        tensors=tensors,
        names=table.names(config.num_hidden_layers),
        leftovers=table.leftovers,
        sequence_length=sequence_length,
        **head,
    )


def _name(key, full_name):
    """A variable's own name without that of its model."""
    name = key if full_name in (None, "", "Variable") else full_name
    return name[name.index(HEAD) :] if HEAD in name else name


def _tokenizer(folder, lowercase):
    """The tokenizer in a SavedModel's assets."""
    assets = folder / "assets"
    if (assets / "tokenizer_config.json").is_file():  # this package wrote it
        options = tokenizers.read_json(assets / "tokenizer_config.json")
        names_there = ("max_input_chars_per_word", "special_tokens")
        return {
            **tokenizers.from_huggingface(assets),
            **{name: options[name] for name in names_there if name in options},
        }
    found = tokenizers.from_vocabulary(assets / "vocab.txt")
    if found and lowercase is not None:
        found["lowercase"] = lowercase
    return found


def _config(folder, shapes):
    """The config that the shapes of the tensors and the graph tell."""
    first = {path: several[0] for path, (several, _) in names.TFHUB.names(1).items()}
    paths = ("word_embeddings/embeddings", "position_embeddings/embeddings", "type_embeddings/embeddings",
             "layer_0/attention/query/kernel", "layer_0/intermediate/kernel")  # fmt: skip
    missing = [first[path] for path in paths if first[path] not in shapes]
    if any("bert/encoder/layer_0/" in name for name in shapes):
        raise ValueError(
            f"{folder} is a module of TensorFlow 1, whose graph says neither casing nor what it computes as "
            "the later ones do: give the archive of the same model, see `keras-bert models`"
        )
    if missing:
        raise ValueError(
            f"{folder} is no TF-Hub encoder of a BERT: it has no variable {', '.join(missing)}. "
            "If it is a text model of another kind, use hub_layer"
        )
    (vocab_size, hidden_size), (positions, _), (types, _), (_, num_heads, _), (_, inner) = (
        shapes[first[path]] for path in paths
    )
    block = names.TFHUB.block
    num_layers = next(i for i in range(len(shapes)) if not any(n.startswith(block(i) + "/") for n in shapes))
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        **_numbers(folder),
    )


def _numbers(folder):
    """The activation and the epsilon that stand in the graph of an encoder."""
    operations, constants, epsilons = set(), set(), set()
    for node in _nodes(_read_graph(folder)):
        operations.add(node.op)
        if node.op == "Const" and node.attr["dtype"].type == 1:  # float32
            tensor = node.attr["value"].tensor
            if len(tensor.float_val) == 1:
                constants.add(np.float32(tensor.float_val[0]))
                if node.name.endswith("batchnorm/add/y"):
                    epsilons.add(tensor.float_val[0])
    found = {
        "gelu_new": np.float32(TANH_GELU) in constants,
        "gelu": "Erf" in operations,
        "relu": "Relu" in operations,
    }
    activations = [name for name, is_there in found.items() if is_there]
    if len(activations) != 1 or len(epsilons) != 1:
        raise ValueError(
            f"{folder}: its graph has the activations {', '.join(activations) or 'none'} and the epsilons "
            f"{', '.join(map(str, sorted(epsilons))) or 'none'}: it is not that of a BERT"
        )
    return {"hidden_act": activations[0], "layer_norm_eps": float(f"{epsilons.pop():.6g}")}


def _read_graph(folder):
    """The meta graph of a SavedModel, parsed and not run."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no saved_model.pb: it is no SavedModel")
    try:
        return saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs[0]
    except (DecodeError, IndexError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): get it again") from error


def _nodes(graph):
    """All nodes of a meta graph."""
    yield from graph.graph_def.node
    for function in graph.graph_def.library.function:
        yield from function.node_def


def _sequence_length(graph):
    """The length to which a preprocessing model packs, or None."""
    outputs = graph.signature_def["serving_default"].outputs.values()
    lengths = {dim.size for output in outputs for dim in output.tensor_shape.dim[1:2] if dim.size > 0}
    return lengths.pop() if len(lengths) == 1 else None
