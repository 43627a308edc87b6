"""Read a Hugging Face folder: `config.json`, `model.safetensors` and the tokenizer's files."""

import warnings
import zipfile
from pathlib import Path

from keras_bert_app.checkpoints import names, tokenizers
from keras_bert_app.checkpoints.checkpoint import Checkpoint, Tensors
from keras_bert_app.config import BertConfig

FORMAT = "huggingface"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
CONVERT = (
    "convert it where torch is installed: "
    'python -c "import torch; from safetensors.torch import save_file; '
    "save_file({k: v.clone().contiguous() for k, v in "
    "torch.load('pytorch_model.bin', map_location='cpu', weights_only=True).items()}, 'model.safetensors')\""
)
MAPPED_BYTES = 2**26
TORCH = (2, 10)  # older ones run code from a file in spite of weights_only: CVE-2025-32434, CVE-2026-24747


def read(folder):
    """What a Hugging Face folder holds.

    Args:
        folder: holds `config.json` and `model.safetensors`, whole or in parts with an index, or
            `pytorch_model.bin`, which needs torch.

    Returns:
        `Checkpoint`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or not supported.
        ModuleNotFoundError: the weights are in `pytorch_model.bin`, and there is no torch.
    """
    folder = Path(folder)
    values = tokenizers.read_json(folder / "config.json")
    config = BertConfig.from_json(folder / "config.json", huggingface=True)
    tensors = _open(folder)
    found = names.HUGGINGFACE.names(config.num_hidden_layers)
    architectures = values.get("architectures") or [""]
    architecture = str(architectures[0]) if isinstance(architectures, list) else ""
    is_tagger = architecture.endswith("ForTokenClassification") or (
        not architecture.endswith("ForSequenceClassification") and "pooler.dense.weight" not in tensors.shapes
    )
    for path in names.HEADS["text_classifier" if is_tagger else "token_classifier"]:
        del found[path]  # both have one name
    return Checkpoint(
        format=FORMAT,
        config=config,
        tokenizer=tokenizers.from_huggingface(folder),
        tensors=tensors,
        names=found,
        leftovers=names.HUGGINGFACE.leftovers,
        labels=_labels(values, tensors.shapes),
        problem_type=values.get("problem_type"),
    )


def has_weights(folder):
    """True if there are weights in one of the formats that `read` takes."""
    names = (f"{name}{suffix}" for name in WEIGHTS for suffix in ("", ".index.json"))
    return any((folder / name).is_file() for name in names)


def _labels(values, shapes):
    """The labels of the classifier in the order of its outputs, or None."""
    if len(shapes.get("classifier.bias", ())) != 1:
        return None
    indices = [str(index) for index in range(shapes["classifier.bias"][0])]
    by_index = values.get("id2label", {index: f"LABEL_{index}" for index in indices})  # as in Transformers
    is_whole = isinstance(by_index, dict) and set(by_index) == set(indices)
    return [by_index[index] for index in indices] if is_whole else None


def _open(folder):
    """The tensors of a folder, by their names without prefix."""
    for name, reader in zip(WEIGHTS, (_open_safetensors, _open_pickled), strict=True):
        index = folder / f"{name}.index.json"
        if index.is_file():
            parts = tokenizers.read_json(index).get("weight_map")
            if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
                raise ValueError(f"{index} is damaged: weight_map must say in which file each tensor is")
            parts = sorted(set(parts.values()))
            paths = [folder / Path(part).name for part in parts]  # no path leads out of the folder
            missing = [path.name for path in paths if not path.is_file()]
            if missing or not paths:
                raise FileNotFoundError(f"{index} names files that are missing: {', '.join(missing)}")
        elif (folder / name).is_file():
            paths = [folder / name]
        else:
            continue
        return _tensors(paths[0] if len(paths) == 1 else index, [reader(path) for path in paths])
    raise FileNotFoundError(
        f"{folder} has no model.safetensors: a Hugging Face folder holds its weights there"
    )


def _tensors(path, files):
    """`Tensors` of files that are given as `(shapes, read)`."""
    names_in_files = [name for shapes, _ in files for name in shapes]
    word_embeddings = "embeddings.word_embeddings.weight"
    prefix = next(
        (n.removesuffix(word_embeddings) for n in names_in_files if n.endswith(word_embeddings)), ""
    )
    shapes, readers = {}, {}
    for shapes_of_file, read_tensor in files:
        for name, shape in shapes_of_file.items():
            short = name.removeprefix(prefix).replace("LayerNorm.gamma", "LayerNorm.weight")
            short = short.replace("LayerNorm.beta", "LayerNorm.bias")
            if short in shapes:
                raise ValueError(
                    f"{path} has two tensors for {short}, {name} and {readers[short][1]}: remove one"
                )
            shapes[short], readers[short] = tuple(shape), (read_tensor, name)

    def read_by_short_name(short):
        read_tensor, name = readers[short]
        return read_tensor(name)

    return Tensors(path, shapes, read_by_short_name)


def _open_safetensors(path):
    """The shapes in a safetensors file, and a function that reads one tensor."""
    from safetensors import SafetensorError, safe_open

    def read_tensor(name):
        # Opened anew for each: what was read of an open file stays in memory.
        try:
            with safe_open(path, framework="numpy") as file:
                return file.get_tensor(name)
        except (AttributeError, TypeError, SafetensorError) as error:  # numbers of eight bits, say
            raise ValueError(f"{path}: {name} cannot be read ({error}): save it as float32") from error

    try:
        with safe_open(path, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut short ({error}): download it again") from error
    return shapes, read_tensor


def _open_pickled(path):
    """The shapes in a file of torch, and a function that reads one tensor; nothing in it is run."""
    try:
        import torch
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{path} can be read by torch only, which is not installed: {CONVERT}"
        ) from error
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < TORCH:
        raise ModuleNotFoundError(
            f"{path}: torch {torch.__version__} may run code that is hidden in such a file: "
            f"install torch {'.'.join(map(str, TORCH))} or newer, or get model.safetensors"
        )
    # Files from before torch 1.6 are no archives, and cannot be mapped.
    mapped = zipfile.is_zipfile(path)

    def load():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)

    try:
        tensors = load()
    except Exception as error:  # of many kinds: the file may be anything
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{path} is damaged, or no file of weights alone ({reason}): get it again"
        ) from error
    if not isinstance(tensors, dict) or not all(hasattr(value, "numpy") for value in tensors.values()):
        raise ValueError(f"{path} holds no tensors by their names: it is not the weights of a model")
    shapes, opened = {name: value.shape for name, value in tensors.items()}, 0

    def read_tensor(name):
        nonlocal tensors, opened
        if mapped and opened > MAPPED_BYTES:  # what was read of a mapped file stays in memory
            tensors, opened = load(), 0
        value = tensors[name]
        value = value.float() if value.is_floating_point() else value  # numpy has no bfloat16
        opened += value.nbytes
        return value.numpy()

    return shapes, read_tensor
