"""TensorFlow checkpoints: the files `PREFIX.index` and `PREFIX.data-...`."""

from pathlib import Path

from keras_bert_app.checkpoints.checkpoint import Tensors

ATTRIBUTE = "/.ATTRIBUTES/VARIABLE_VALUE"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def find_prefix(path):
    """The prefix of the checkpoint in a folder, or `path` itself if it is one; None if there is none.

    Raises:
        ValueError: the folder holds several.
    """
    path = Path(path)
    if (path.parent / f"{path.name}.index").is_file():
        return path
    # Other programs too call a file so; those of TensorFlow stand beside their data.
    found = sorted(p.with_suffix("") for p in path.glob("*.index") if any(path.glob(f"{p.stem}.data-*")))
    if len(found) > 1:
        raise ValueError(
            f"{path} holds several checkpoints: give the one you want, such as {found[-1]}, of "
            f"{', '.join(p.name for p in found)}"
        )
    return found[0] if found else None


def open_tensors(prefix):
    """The tensors of a checkpoint, and its object graph.

    Args:
        prefix: path without `.index`.

    Returns:
        `(tensors, full_names)`: `Tensors`, by their keys without `/.ATTRIBUTES/VARIABLE_VALUE`, and
        a dict from each key to the name that the variable had in the program that wrote it,
        empty for a checkpoint of TensorFlow 1.

    Raises:
        ValueError: the checkpoint is damaged.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    def failed(error):
        return ValueError(f"{prefix} is damaged or cut short ({error}): get it again")

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        keys = {key.removesuffix(ATTRIBUTE): key for key in reader.get_variable_to_shape_map()}
        full_names = {}
        if keys.pop(OBJECT_GRAPH, None):
            graph = trackable_object_graph_pb2.TrackableObjectGraph()
            graph.ParseFromString(reader.get_tensor(OBJECT_GRAPH))
            full_names = {
                attribute.checkpoint_key.removesuffix(ATTRIBUTE): attribute.full_name
                for node in graph.nodes
                for attribute in node.attributes
            }
    except Exception as error:  # the reader has one for each kind of damage
        raise failed(error) from error

    def read(name):
        try:
            return reader.get_tensor(keys[name])
        except Exception as error:
            raise failed(error) from error

    shapes = reader.get_variable_to_shape_map()
    return Tensors(Path(prefix), {name: tuple(shapes[key]) for name, key in keys.items()}, read), full_names


def beside(folders, *names):
    """The first of some files that is in the first of some folders, or else in the next; or None."""
    return next((f / name for f in folders for name in names if (f / name).is_file()), None)
