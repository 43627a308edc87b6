"""Any text model of TF-Hub as a Keras layer."""

import keras

from keras_bert_app import downloads
from keras_bert_app.layers import PACKAGE

SIGNATURE = "serving_default"


def hub_layer(handle, name=None, offline=False, sha256=None):
    """A layer that runs a SavedModel, such as a text embedding, a preprocessor or an encoder of TF-Hub.

    It takes and gives what the SavedModel does: strings `(batch,)` and vectors `(batch, dim)`, say,
    or dicts. It is for inference: the weights are not trainable and there is no dropout. To train
    a BERT, or to have it with another length or precision, read it with `from_pretrained`.

    A SavedModel is a program and runs with your rights, when it is loaded and when it is called: it
    can read, write and send your files. Give handles only of sources that you trust, and `sha256`, so
    that it stays the program that you looked at. A `.keras` file with this layer names the
    folder of the SavedModel and does not hold it, so it loads only where that folder is, and only
    if told to trust it:

        import tensorflow_text
        keras.saving.load_model("model.keras", custom_objects=kba.custom_objects(), safe_mode=False)

    Args:
        handle: a local folder or archive, an address, `kaggle://...`, a handle of tfhub.dev; see
            `download`.
        name: of the layer.
        offline: True to make no request.
        sha256: what the SHA-256 of the archive must be, see `download`.

    Returns:
        A `keras.layers.TFSMLayer`. It calls the SavedModel itself or, if that cannot be called,
        its signature `serving_default`, which takes one tensor or a dict and gives a dict.

    Raises:
        FileNotFoundError: there is no SavedModel.
        OSError: it cannot be downloaded.
        ValueError: the SavedModel is damaged, needs an operation that is not there, or cannot be
            called and has no signature `serving_default`; or Keras has another backend than
            TensorFlow.

    Example:

    ```python
    import keras

    preprocessor, encoder = kba.from_pretrained("all-MiniLM-L6-v2", sequence_length=128)
    kba.save_checkpoint(encoder, "pair", "tfhub", preprocessor)

    text = keras.Input((), dtype="string")
    outputs = kba.hub_layer("pair/encoder")(kba.hub_layer("pair/preprocess")(text))
    model = keras.Model(text, outputs["pooled_output"])
    ```

    Reference: [TF-Hub's text interface](https://www.tensorflow.org/hub/common_saved_model_apis/text).
    """
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"a SavedModel cannot be run with the {keras.config.backend()} backend of Keras: "
            "set KERAS_BACKEND=tensorflow"
        )
    import tensorflow_text  # noqa: F401  # its operations may be in the graph

    folder = downloads.download(handle, offline, sha256)
    endpoint, num_inputs = _endpoint(folder)
    layer = keras.layers.TFSMLayer if num_inputs == 1 else HubSignature
    try:
        return layer(str(folder.absolute()), call_endpoint=endpoint, trainable=False, name=name)
    except Exception as error:  # what a damaged one raises depends on which file is wrong
        message = str(error).strip().split("\n")[0]
        raise ValueError(
            f"{folder} cannot be loaded: {message}. Get it again or, if an operation is not registered, "
            "import the package that has it before"
        ) from error


def _endpoint(folder):
    """What of the SavedModel to call, read from its file without running it, and with how many inputs."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = folder / "saved_model.pb"
    if not path.is_file():
        within = sorted(str(found.parent) for found in folder.glob("*/saved_model.pb"))
        remedy = f"give {' or '.join(within)}" if within else "give the folder of a SavedModel"
        raise FileNotFoundError(f"{folder} is no SavedModel, there is no saved_model.pb: {remedy}")
    try:
        (graph,) = SavedModel.FromString(path.read_bytes()).meta_graphs
    except (DecodeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, or of TensorFlow 1 with several graphs ({error}): get it again, or another"
        ) from error
    nodes = graph.object_graph_def.nodes
    attributes = {child.local_name for child in nodes[0].children} if nodes else set()
    if "__call__" in attributes:
        return "__call__", 1
    if SIGNATURE in graph.signature_def:
        return SIGNATURE, len(graph.signature_def[SIGNATURE].inputs)
    signatures, attributes = (
        ", ".join(sorted(name for name in names if not name.startswith("__"))) or "none"
        for names in (graph.signature_def, attributes - {"signatures"})
    )
    raise ValueError(
        f"{folder} cannot be called and has no signature {SIGNATURE}. Its signatures: {signatures}; its "
        f"attributes: {attributes}. Call one of them with keras.layers.TFSMLayer(folder, name)"
    )


@keras.saving.register_keras_serializable(PACKAGE)
class HubSignature(keras.layers.TFSMLayer):
    """A signature of a SavedModel that has several inputs, which Keras's own layer cannot call.

    Args:
        filepath: folder of the SavedModel.
        call_endpoint: name of the signature.

    Call arguments:
        inputs: dict of the tensors that the signature takes.

    Returns:
        dict of the tensors that it gives.
    """

    def call(self, inputs, training=False):
        return self.call_endpoint_fn(**inputs)
