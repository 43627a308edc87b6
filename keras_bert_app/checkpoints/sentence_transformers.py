"""What a folder of sentence-transformers says beyond its BERT: the pooling and the length."""

from pathlib import Path

from keras_bert_app.checkpoints import tokenizers

POOLING = "1_Pooling/config.json"
MODES = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max"}


def is_one(folder):
    """True if the folder holds a model of sentence-transformers, or the BERT of one."""
    return (_root(Path(folder)) / "modules.json").is_file()


def bert_folder(folder):
    """Where the BERT is: in `folder`, or in its folder `0_Transformer`, as versions before 2 wrote it."""
    inside = sorted(folder.glob("0_*/config.json")) if is_one(folder) else []
    return inside[0].parent if inside and not (folder / "config.json").is_file() else folder


def _root(folder):
    """The folder of the model whose BERT is in `folder`."""
    is_part = folder.name.startswith("0_") and not (folder / "modules.json").is_file()
    return folder.parent if is_part else folder


def pooling(folder):
    """How the vectors of word pieces become one: `pooling` and `normalize` of `sentence_encoder`.

    Args:
        folder: of a BERT of any format, see `bert_folder`.

    Returns:
        A dict with both, empty if the checkpoint is none of sentence-transformers.

    Raises:
        ValueError: it has a kind of pooling, or a layer, that is not supported.
    """
    folder = _root(Path(folder))
    if not is_one(folder):
        return {}
    modules = tokenizers.read_json(folder / "modules.json", list)
    types = [str(dict(module).get("type")).rsplit(".", 1)[-1] for module in modules]
    others = set(types) - {"Transformer", "Pooling", "Normalize"}
    if others:
        raise ValueError(
            f"{folder / 'modules.json'} has the layers {', '.join(sorted(others))}, which are not supported: "
            "load its BERT with from_pretrained and build them on it"
        )
    config = tokenizers.read_json(folder / POOLING) if (folder / POOLING).is_file() else {}
    prefix = "pooling_mode_"
    modes = {
        name.removeprefix(prefix) for name, on in config.items() if name.startswith(prefix) and on is True
    }
    modes |= {mode for mode, name in MODES.items() if name == config.get("pooling_mode")}
    if len(modes) != 1 or not modes <= set(MODES):
        raise ValueError(
            f"{folder / POOLING} asks for {', '.join(sorted(modes)) or 'no pooling'}: "
            f"one of {', '.join(MODES)} is supported"
        )
    return {"pooling": MODES[modes.pop()], "normalize": "Normalize" in types}


def sequence_length(folder):
    """The word pieces of the longest input, or None if the folder does not say."""
    path = Path(folder) / "sentence_bert_config.json"
    length = tokenizers.read_json(path).get("max_seq_length") if path.is_file() else None
    return length if type(length) is int and length >= 3 else None
