"""Fine-tuning: from labelled texts and a pretrained BERT to a saved model that takes text."""

import shutil
import time
import warnings
from pathlib import Path

import keras
import numpy as np

from keras_bert_app import files, optimization, run_folder
from keras_bert_app.arguments import check_arguments
from keras_bert_app.bundled import DEFAULT
from keras_bert_app.checkpointing import RunState, fingerprint
from keras_bert_app.data import buckets
from keras_bert_app.handles import check_sequence_length, from_pretrained
from keras_bert_app.progress import TensorBoardEvents
from keras_bert_app.task_model import TaskModel
from keras_bert_app.tasks import get_task
from keras_bert_app.training_loop import TrainingLoop

SEQUENCE_LENGTH = 128  # by default; BERT's cost grows with it
PACKAGES = ("keras", "tensorflow", "tensorflow-text")


def finetune(
    task,
    train,
    validation=None,
    *,
    output,
    model=DEFAULT,
    epochs=3,
    batch_size=32,
    learning_rate=5e-5,
    sequence_length=None,
    seed=0,
    precision=None,
    warmup=0.1,
    weight_decay=0.01,
    dropout=0.1,
    class_weights=None,
    patience=None,
    checkpoint_minutes=5,
    tensorboard=False,
):
    """Fine-tunes a BERT for a task and saves the result in a run folder.

    AdamW with warm-up, linear decay and clipping; batches of texts of like length. With
    `validation` the epoch with the best metric is kept, otherwise the last. The run folder
    holds `model.keras` (text in), `labels.json`, `config.json`, `history.json` and
    `curves.png`, and appears only when it is complete; until then `OUTPUT.unfinished` holds
    the state. A run that was killed or stopped goes on from there when it is started again with the
    same arguments, and ends with the same weights (but for dropout on the Torch backend, whose random
    numbers are not part of the state).

    Args:
        task: name of the task, `"text-classification"`.
        train: path or iterable of `(text, label)`, see `read_labelled`.
        validation: the same, or None.
        output: the run folder; must not exist.
        model: a handle for `from_pretrained`, or its result `(preprocessor, encoder)`; the
            encoder is then trained in place. Defaults to the BERT that comes with the package.
        epochs: how often the training data are gone through.
        batch_size: examples of a training step.
        learning_rate: the highest learning rate.
        sequence_length: word pieces of the longest input. Defaults to 128 for a handle, or the
            most that its encoder takes, and to the preprocessor's own otherwise.
        seed: of the head's weights, the order of the examples and dropout.
        precision: `"float32"`, the default, or `"mixed_bfloat16"`; only for a handle.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: of all weights but biases and layer normalization.
        dropout: rate before the task's head.
        class_weights: None, `"balanced"`, or a dict from each label to its weight.
        patience: stop after so many epochs without a better validation metric.
        checkpoint_minutes: time between two saves of the state; it is also saved after each epoch.
        tensorboard: also write events for TensorBoard to `tensorboard/` in the run folder.

    Returns:
        A `TaskModel`, which is called with texts.

    Raises:
        FileExistsError: `output` exists.
        FileNotFoundError: the data or the model are missing.
        ValueError: an argument or the data cannot be used.
        FloatingPointError: the loss is no longer a number.
        OSError: `output` cannot be written.

    Example:

    ```python
    model = kba.finetune(
        "text-classification", "train.csv", "validation.csv", model="all-MiniLM-L6-v2",
        output="runs/reviews",
    )
    model(["a great film"])
    ```

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), appendix A.3.
    """
    started = time.monotonic()
    arguments = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "sequence_length": sequence_length,
        "seed": seed,
        "precision": precision,
        "warmup": warmup,
        "weight_decay": weight_decay,
        "dropout": dropout,
        "class_weights": class_weights,
        "patience": patience,
    }
    check_arguments(
        {**arguments, "checkpoint_minutes": checkpoint_minutes}, optional=("patience", "precision")
    )
    output = Path(output)
    if output.exists():
        raise FileExistsError(f"{output} exists: choose another output folder, or remove it")
    if patience is not None and validation is None:
        raise ValueError(f"patience={patience} needs validation data: give some")
    if tensorboard:
        TensorBoardEvents.check()
    functions = get_task(task)
    examples = functions.read(train)
    labels = functions.find_labels(examples)
    targets = [functions.encode_labels(examples, labels)]
    if class_weights is not None:
        targets.append(_example_weights(class_weights, targets[0], labels))
    held_out = None if validation is None else functions.read(validation)
    if held_out is not None:
        functions.encode_labels(held_out, labels)  # an unknown label is an error before the work

    keras.utils.set_random_seed(seed)
    preprocessor, encoder = _load_model(model, sequence_length, precision)
    result = TaskModel(task, preprocessor, functions.build(encoder, labels, dropout), labels)
    _seed_dropout(result.model, seed)
    arguments["sequence_length"] = preprocessor.sequence_length
    arguments["precision"] = encoder.get_layer("pooler").dtype_policy.name
    identity = {
        "task": task,
        **arguments,
        "data": fingerprint([examples, held_out], result.model.variables),
    }
    state = RunState(output.with_name(output.name + ".unfinished"), identity)
    events = TensorBoardEvents(state.folder / "tensorboard") if tensorboard else None
    steps = epochs * -(-len(examples) // batch_size)
    trainer = _compile(result, optimization.adamw(learning_rate, steps, warmup, weight_decay))
    loop = TrainingLoop(result, trainer, state, arguments, checkpoint_minutes, events)
    rows = buckets.encode(preprocessor, [text for text, _ in examples])
    try:
        history = loop.run(rows, targets, held_out)
    except FloatingPointError:
        shutil.rmtree(state.folder)  # there is nothing to go on from
        raise
    _warn_if_collapsed(result, held_out or examples)
    details = {"recipe": arguments, "train_examples": len(examples), "seconds": time.monotonic() - started}
    _save(result, output, state.folder, history, details)
    return result


def _load_model(model, sequence_length, precision):
    """The preprocessor and the encoder of a handle, or of a pair that the user has loaded."""
    if isinstance(model, tuple) and not any(isinstance(part, str | Path) for part in model):
        if precision is not None:
            raise ValueError(
                f"precision={precision!r} comes too late for a loaded encoder: load it with dtype"
            )
        preprocessor, encoder = model
    else:
        preprocessor, encoder = from_pretrained(model, dtype=precision or "float32")
        if sequence_length is None:
            sequence_length = min(SEQUENCE_LENGTH, preprocessor.sequence_length)
    if sequence_length is not None:
        preprocessor = preprocessor.replace(sequence_length=sequence_length)
    check_sequence_length(preprocessor.sequence_length, encoder)
    return preprocessor, encoder


def _seed_dropout(model, seed):
    """Starts every dropout layer from `seed`, whenever and by whom the layer was made."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            variable.assign(np.array([random.integers(2**31), 0], variable.dtype))


def _example_weights(class_weights, targets, labels):
    """The weight of each example, float32 `(examples,)`."""
    if class_weights == "balanced":
        counts = np.bincount(targets, minlength=len(labels))
        weights = len(targets) / (len(labels) * counts)
    elif isinstance(class_weights, dict) and set(class_weights) == set(labels):
        weights = np.array([class_weights[label] for label in labels])
    else:
        raise ValueError(f"class_weights={class_weights!r}: give 'balanced' or a weight for each of {labels}")
    return weights.astype("float32")[targets]


def _compile(result, optimizer):
    """A model of the same layers to be trained; `result.model` stays as it is to be saved."""
    functions = get_task(result.task)
    trainer = keras.Model(result.model.input, result.model.output)
    # XLA would compile anew for each length, and is slower on a CPU; JAX has nothing else.
    jit_compile = "auto" if keras.config.backend() == "jax" else False
    trainer.compile(optimizer, functions.loss(), metrics=[functions.METRIC], jit_compile=jit_compile)
    return trainer


def _warn_if_collapsed(result, examples):
    order = np.random.default_rng(0).permutation(len(examples))  # the file may be sorted by label
    some = [examples[i] for i in order[:512]]
    texts = [text for text, _ in some]
    if len({label for _, label in some}) > 1 and get_task(result.task).collapsed(result.outputs(texts)):
        warnings.warn(
            f"the model gives all of {len(texts)} texts the same answer: the training collapsed, or the "
            "labels are very uneven. Try a lower learning rate, more epochs, another seed, or "
            "class_weights='balanced'",
            stacklevel=3,
        )


def _save(result, output, unfinished, history, details):
    """Writes the run folder and then removes the folder of the unfinished run."""
    details |= run_folder.facts(PACKAGES)
    with files.whole(output) as temporary:
        temporary.mkdir()
        result.save(temporary, **details)
        run_folder.write_history(temporary, history, unfinished)
    shutil.rmtree(unfinished)
