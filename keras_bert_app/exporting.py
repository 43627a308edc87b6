"""A fine-tuned model as a SavedModel that takes text, in the layout of TensorFlow Serving."""

from pathlib import Path

from keras_bert_app import __version__, files, formats, loading, runtimes, serving_ops, warm_up
from keras_bert_app.lean import lean_models
from keras_bert_app.precision import with_narrow_weights
from keras_bert_app.task_model import TaskModel

# What the SavedModel is, for `inspect`: beside the warm-up requests, where Serving reads no more than those.
ABOUT = "assets.extra/keras_bert_app.json"


def export(model, folder, format="tf_saved_model", quantize=None, data=None, columns=None):
    """Writes the next version of a model: a SavedModel that takes text, or one for another runtime.

    The signature `serving_default` takes a string `(batch,)` for each text: `text`, `text` and `text_pair`,
    `question` and `context`, or `text` and `choices`, `(batch, choices)`. What it returns the modules of
    `signatures` say; for text classification with one label it is `label`, string `(batch,)`; `score`,
    float32 `(batch,)`; `classes`, string `(batch, num_classes)`; and `probabilities`, float32
    `(batch, num_classes)`. The signature `ids` takes the inputs of the encoder, int32 `(batch, length)`, and
    returns raw outputs; `classify` or `regress`, where the task has one, takes serialized `tf.Example`s with
    the texts. To load it in Python, `import tensorflow_text` first: its operations are part of the graph.

    Beside it are requests with which TensorFlow Serving warms up when it loads the model. A model in
    `mixed_bfloat16` is written with weights in bfloat16, in which it computes: half the size, same answers.

    The other formats take the inputs of the encoder, and return raw outputs. The tokenizer is beside them:
    `load` runs them on texts, and `PythonPreprocessor` makes their inputs without TensorFlow. What is written
    is compared with the Keras model; the report is in its `config.json`, under `check`.

    Args:
        model: `TaskModel`, or the run folder of one.
        folder: such as `saved_models/reviews`; the versions in it are folders named by whole
            numbers, as TensorFlow Serving expects.
        format: `"tf_saved_model"`, `"litert"`, `"onnx"` or `"openvino"`; the extra of the same name has what
            the last three need.
        quantize: for these three, None for float32, `"float16"`, or `"int8"`, weights of matrices in 8 bits.
            In int8 LiteRT and ONNX Runtime quantize activations as they come; OpenVINO, if there is `data`,
            to the ranges that they have of up to 300 examples of it, and else not at all.
        data: for these three, what `TaskModel.evaluate` takes, to measure before and after.
        columns: of the data, see `finetune`.

    Returns:
        Path of the version written.

    Raises:
        OSError: the folder cannot be written.
        FileNotFoundError, ValueError: `model` is no fine-tuned model, see `load`; there is no such format;
            TensorFlow Serving could not run an operation in it; or another runtime gives other outputs.
        ModuleNotFoundError: what writes the format is not installed.
    """
    import keras
    import tensorflow as tf

    check_format(format, quantize, data)
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"a model cannot be written with the {keras.config.backend()} backend of Keras: "
            "set KERAS_BACKEND=tensorflow and export the run folder"
        )

    if not isinstance(model, TaskModel):
        model = loading.load(model)
    if not isinstance(model.model, keras.Model):
        raise ValueError("the model was exported already: export the run folder of its training")
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file: choose another folder to export to")
    path = folder / str(max(files.versions(folder), default=0) + 1)
    with files.whole(path) as temporary:
        try:
            if format == "tf_saved_model":
                _write_saved_model(model, temporary)
            else:
                temporary.mkdir()
                formats.write(model, temporary, format, quantize, data, columns)
        except tf.errors.OpError as error:  # a full disk, for one
            raise OSError(error.message) from error
    return path


def check_format(format, quantize=None, data=None):
    """Raises ValueError if there is no such format, or it has no such option."""
    if format not in ("tf_saved_model", *runtimes.FORMATS):
        raise ValueError(f"format={format!r}: one of tf_saved_model, {', '.join(runtimes.FORMATS)}")
    if quantize not in (None, *formats.QUANTIZED):
        raise ValueError(f"quantize={quantize!r}: one of {', '.join(formats.QUANTIZED)}, or none for float32")
    if format == "tf_saved_model" and (quantize is not None or data is not None):
        raise ValueError(
            f"a SavedModel is not quantized or measured: choose format {' or '.join(runtimes.FORMATS)}"
        )


def _write_saved_model(model, folder):
    import keras

    archive = keras.export.ExportArchive()
    model = TaskModel(model.task, model.preprocessor, with_narrow_weights(model.model))
    endpoints = signatures(model)
    # The endpoint brings its variables along; `track` would write each of them a second time.
    for name, (function, signature) in endpoints.items():
        archive.add_endpoint(name, function, signature)
    archive.write_out(str(folder), verbose=False)
    check_operations(folder)
    (folder / "assets.extra").mkdir()
    specs = {name: signature for name, (_, signature) in endpoints.items()}
    texts = getattr(model.task, "example_texts", {})
    warm_up.write_requests(folder / warm_up.FILE, warm_up.requests(specs, texts))
    files.write_json(folder / ABOUT, about(model, specs["serving_default"], texts))


def signatures(model):
    """All signatures of a `TaskModel`: dict from names to functions with their input signatures."""
    from keras_bert_app.signatures.ids import by_ids

    found = {
        name: (lean_models()(function), texts)  # for no answer depends on padding
        for name, (function, texts) in model.task.serve(model.model, model.preprocessor).items()
    }
    name = getattr(model.task, "output_name", "logits")
    found["ids"] = by_ids(model.model, name, model.preprocessor.tokenizer.vocabulary_size)
    return found


def check_operations(folder):
    """That TensorFlow Serving 2.12 and newer can run a SavedModel.

    Raises:
        ValueError: it cannot; the message names the operations.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    found = SavedModel.FromString((Path(folder) / "saved_model.pb").read_bytes())
    names = serving_ops.not_served(found.meta_graphs[0].graph_def)
    if names:
        raise ValueError(
            f"TensorFlow Serving 2.12 and newer do not link {', '.join(names)}: build the model and its "
            "preprocessing without them (of tensorflow-text, WaterfallTrimmer or ShrinkLongestTrimmer can "
            "stand for RoundRobinTrimmer; a Python function has to become operations of TensorFlow)"
        )


def about(model, signature, texts):
    """What an exported model says of itself."""
    return {
        "task": model.task.name,
        "labels": getattr(model.task, "labels", None),
        "sequence_length": model.preprocessor.sequence_length,
        "example": warm_up.example([spec.name for spec in signature], texts),
        "keras_bert_app": __version__,
    }
