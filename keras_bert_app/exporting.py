"""A fine-tuned model as a SavedModel that takes text, in the layout of TensorFlow Serving."""

from pathlib import Path

from keras_bert_app import files, loading
from keras_bert_app.task_model import TaskModel


def export(model, folder):
    """Writes the next version of a SavedModel that takes text.

    The signature `serving_default` takes a string `(batch,)` for each text: `text`, `text` and `text_pair`,
    `question` and `context`, or `text` and `choices`, `(batch, choices)`. What it returns the modules of
    `signatures` say; for text classification with one label it is `label`, string `(batch,)`; `score`,
    float32 `(batch,)`; `classes`, string `(batch, num_classes)`; and `probabilities`, float32
    `(batch, num_classes)`. To load it in Python, `import tensorflow_text` first: its operations are part of
    the graph.

    Args:
        model: `TaskModel`, or the run folder of one.
        folder: such as `saved_models/reviews`; the versions in it are folders named by whole
            numbers, as TensorFlow Serving expects.

    Returns:
        Path of the version written.

    Raises:
        OSError: the folder cannot be written.
        FileNotFoundError, ValueError: `model` is no fine-tuned model, see `load`.
    """
    import keras
    import tensorflow as tf

    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"a SavedModel cannot be written with the {keras.config.backend()} backend of Keras: "
            "set KERAS_BACKEND=tensorflow and export the run folder"
        )

    if not isinstance(model, TaskModel):
        model = loading.load(model)
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file: choose another folder to export to")
    versions = (
        [int(p.name) for p in folder.iterdir() if p.name.isascii() and p.name.isdigit()]
        if folder.is_dir()
        else []
    )
    path = folder / str(max(versions, default=0) + 1)
    archive = keras.export.ExportArchive()
    # The endpoint brings its variables along; `track` would write each of them a second time.
    for name, (function, signature) in model.task.serve(model.model, model.preprocessor).items():
        archive.add_endpoint(name, function, signature)
    with files.whole(path) as temporary:
        try:
            archive.write_out(str(temporary), verbose=False)
        except tf.errors.OpError as error:  # a full disk, for one
            raise OSError(error.message) from error
    return path
