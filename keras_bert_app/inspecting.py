"""What a SavedModel takes and returns, as `keras-bert inspect` shows it."""

import json
import shlex
from pathlib import Path

from keras_bert_app import exporting, serving_ops

HIDDEN = ("__saved_model_init_op",)
PORT = 8501
EXAMPLES = {"string": "text", "float32": 0.5, "float64": 0.5, "bool": True}


def inspect(folder):
    """Describes a SavedModel, ours or any other.

    Args:
        folder: of a version, or of a model, and then its newest version is described.

    Returns:
        dict: `path`; `name` and `version`; `bytes`; `parameters`; `task` and `labels`, None if the model
        does not say; `signatures`, by name, each with `inputs` and `outputs`, by name `[type, shape]`, where
        None is an open axis and a shape of None an open rank; `operations`, their number;
        `text_operations`, those of tensorflow-text; `not_served`, those that TensorFlow Serving 2.12 and
        newer cannot run; `warm_up`, the number of its requests; and `request`, an example for
        `serving_default`.

    Raises:
        FileNotFoundError: there is no SavedModel.
        ValueError: it is damaged.

    Example:

    ```python
    kba.export("runs/reviews", "saved_models/reviews")
    kba.inspect("saved_models/reviews")["signatures"]["serving_default"]["inputs"]
    # {"text": ["string", [None]]}
    ```
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = _version(Path(folder))
    try:
        graph = SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0]
    except (DecodeError, IndexError) as error:
        raise ValueError(f"{path}/saved_model.pb is damaged ({error}): export the model again") from None
    about = path / exporting.ABOUT
    about = json.loads(about.read_text(encoding="utf-8")) if about.exists() else {}
    signatures = {
        name: {"inputs": _tensors(definition.inputs), "outputs": _tensors(definition.outputs)}
        for name, definition in sorted(graph.signature_def.items())
        if name not in HIDDEN
    }
    operations = serving_ops.operations(graph.graph_def)
    numbered = path.name.isdigit()
    return {
        "path": str(path),
        "name": path.resolve().parent.name if numbered else path.resolve().name,
        "version": int(path.name) if numbered else None,
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "parameters": _parameters(path),
        "task": about.get("task"),
        "labels": about.get("labels"),
        "signatures": signatures,
        "operations": len(operations),
        "text_operations": sorted(serving_ops.TEXT_OPERATIONS & set(operations)),
        "not_served": serving_ops.not_served(graph.graph_def),
        "warm_up": _warm_ups(path),
        "request": _request(signatures, about),
    }


def _version(folder):
    """The folder of the SavedModel."""
    if (folder / "saved_model.pb").exists():
        return folder
    numbers = [p for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
    newest = max(numbers, key=lambda path: int(path.name), default=None)
    if newest is None or not (newest / "saved_model.pb").exists():
        raise FileNotFoundError(
            f"there is no SavedModel in {folder}: give the folder that keras-bert export has written"
        )
    return newest


def _tensors(infos):
    import tensorflow as tf

    return {
        name: [
            tf.dtypes.as_dtype(info.dtype).name,
            None
            if info.tensor_shape.unknown_rank
            else [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim],
        ]
        for name, info in sorted(infos.items())
    }


def _parameters(path):
    """The numbers in the variables."""
    import math

    import tensorflow as tf

    if not (path / "variables" / "variables.index").exists():
        return 0
    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    shapes = reader.get_variable_to_shape_map()
    types = reader.get_variable_to_dtype_map()
    return sum(math.prod(shapes[name]) for name in shapes if types[name].is_floating)


def _warm_ups(path):
    from keras_bert_app import warm_up

    return sum(1 for _ in warm_up.read_requests(path / warm_up.FILE)) if (path / warm_up.FILE).exists() else 0


def _request(signatures, about):
    """A request that `serving_default` takes, None if it takes nothing."""
    inputs = signatures.get("serving_default", {}).get("inputs")
    if not inputs:
        return None
    row = about.get("example") or {
        name: _value(kind, (shape or [None])[1:]) for name, (kind, shape) in inputs.items()
    }
    return {"instances": [row if len(row) > 1 else next(iter(row.values()))]}


def _value(kind, shape):
    value = EXAMPLES.get(kind, 1)
    for size in reversed(shape):
        value = [value] * (size or 2)
    return value


def show(found):
    """What `inspect` has found, as text."""
    size = f"{found['bytes'] / 1e6:,.1f} MB, {found['parameters']:,} parameters"
    lines = [f"model       {found['name']}" + (f" version {found['version']}" if found["version"] else "")]
    lines.append(f"size        {size}")
    if found["task"]:
        lines.append(f"task        {found['task']}")
    if found["labels"]:
        lines.append(f"labels      {', '.join(map(str, found['labels']))}")
    texts = ", ".join(found["text_operations"]) or "none"
    lines.append(f"operations  {found['operations']}; of tensorflow-text: {texts}")
    served = f"no: {', '.join(found['not_served'])}" if found["not_served"] else "yes"
    lines.append(f"runs in TensorFlow Serving 2.12 and newer: {served}")
    lines.append(f"warm-up     {found['warm_up']} requests")
    for name, signature in found["signatures"].items():
        lines.append(f"\n{name}")
        for kind, tensors in signature.items():
            for tensor, (dtype, shape) in tensors.items():
                arrow = "takes" if kind == "inputs" else "gives"
                lines.append(f"  {arrow}  {tensor:16} {dtype:8} {_shape(shape)}")
    if found["request"]:
        body = json.dumps(found["request"], ensure_ascii=False)
        url = f"http://localhost:{PORT}/v1/models/{found['name']}:predict"
        lines.append(f"\nkeras-bert serve {shlex.quote(str(Path(found['path']).parent))}")
        lines.append(f"curl -d {shlex.quote(body)} {url}")
    return "\n".join(lines)


def _shape(shape):
    if shape is None:
        return "of any rank"
    sizes = ["?" if size is None else str(size) for size in shape]
    return f"({', '.join(['batch', *sizes[1:]] if sizes[:1] == ['?'] else sizes)})"
