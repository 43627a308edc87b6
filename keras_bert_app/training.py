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
from keras_bert_app.handles import build_preprocessor, check_sequence_length, is_loaded, open_checkpoint
from keras_bert_app.profiling import StepProfile
from keras_bert_app.progress import TensorBoardEvents, say
from keras_bert_app.task_model import TaskModel, prepared
from keras_bert_app.tasks import check_columns, get_task, options_of
from keras_bert_app.training_loop import TrainingLoop

# Keras adds it to the second moment's root before the correction, PyTorch after it. In 200 steps without
# dropout a kernel moved as with PyTorch's 1e-8, within 0.04 %. With 1e-8 here it moved 1 % less, and with the
# 1e-6 of pretraining the word embeddings, whose gradients are small, a third less in 30.
EPSILON = 1e-9
WARMUP = 0.1  # as BERT's authors fine-tuned it
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
    batch_tokens=None,
    learning_rate=5e-5,
    sequence_length=None,
    truncation=None,
    seed=0,
    precision=None,
    warmup=None,
    weight_decay=0.01,
    dropout=0.1,
    class_weights=None,
    patience=None,
    checkpoint_minutes=5,
    tensorboard=False,
    profile=False,
    columns=None,
):
    """Fine-tunes a BERT for a task and saves the result in a run folder.

    AdamW with warm-up, linear decay and clipping; batches at random, and of like length where there
    are many. With `validation` the epoch with the best metric is kept, otherwise the last. The run folder
    holds `model.keras` (text in), `labels.json`, `config.json`, `history.json` and
    `curves.png`, and appears only when it is complete; until then `OUTPUT.unfinished` holds
    the state. A run that was killed or stopped goes on from there when it is started again with the
    same arguments, and ends with the same weights (but for dropout on the Torch backend, whose random
    numbers are not part of the state).

    Args:
        task: name of the task, such as `"text-classification"`, or the task itself, such as
            `TextClassification(stride=128)`, for options other than its own.
        train: path or iterable of examples, see the task's `read`; for text classification of
            `(text, label)`, see `read_labelled`.
        validation: the same, or None.
        output: the run folder; must not exist.
        model: a handle for `from_pretrained`, or its result `(preprocessor, encoder)`; the
            encoder is then trained in place, with a fresh head. Defaults to the BERT that comes with the
            package.
        epochs: how often the training data are gone through.
        batch_size: examples of a training step.
        batch_tokens: word pieces that a training step has at most, padding included, in the place of
            `batch_size`, which is that of validation then: the shorter the texts, the more are in a step, and
            the more wrong answers there are to each with in-batch negatives.
        learning_rate: the highest learning rate.
        sequence_length: word pieces of the longest input. Defaults to 128 for a handle, for question
            answering to 384, or what `from_pretrained` gives it if that is less, and to the preprocessor's
            own otherwise.
        truncation: what is cut of longer ones, such as `"head_tail"`, see `BertPreprocessor`; None for the
            preprocessor's own, which is `"longest_first"` for a handle, but for a run folder. What a task
            reads in windows is not cut.
        seed: of the head's weights, the order of the examples and dropout.
        precision: `"float32"`, the default, or `"mixed_bfloat16"`; only for a handle.
        warmup: share of the steps in which the learning rate rises. Defaults to a tenth, for token
            classification to none.
        weight_decay: of all weights but biases and layer normalization.
        dropout: rate before the head of a classifier; other heads have none, the encoder has its own.
        class_weights: None, `"balanced"`, or a dict from each label to its weight.
        patience: stop after so many epochs without a better validation metric.
        checkpoint_minutes: time between two saves of the state; it is also saved after each epoch.
        tensorboard: also write events for TensorBoard to `tensorboard/` in the run folder.
        profile: also print where the time of five steps went, and write a trace of them for TensorBoard's
            profiler to `tensorboard/` in the run folder. TensorFlow only; the print is of the CPU.
        columns: dict of the names of columns of the data, if they are others: of `"text"`, `"pair"`, for
            the second text of a pair, and `"label"`.

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
    if isinstance(class_weights, dict):  # what JSON can hold, of NumPy's too
        class_weights = {_plain(label): _plain(weight) for label, weight in class_weights.items()}
    arguments = {
        "epochs": epochs,
        "batch_size": batch_size,
        "batch_tokens": batch_tokens,
        "learning_rate": learning_rate,
        "sequence_length": sequence_length,
        "truncation": truncation,
        "seed": seed,
        "precision": precision,
        "weight_decay": weight_decay,
        "dropout": dropout,
        "class_weights": class_weights,
        "patience": patience,
    }
    check_arguments(
        {**arguments, "warmup": warmup, "checkpoint_minutes": checkpoint_minutes},
        optional=("batch_tokens", "patience", "precision", "warmup"),
    )
    output = Path(output)
    if output.exists():
        raise FileExistsError(f"{output} exists: choose another output folder, or remove it")
    if patience is not None and validation is None:
        raise ValueError(f"patience={patience} needs validation data: give some")
    if tensorboard:
        TensorBoardEvents.check()
    if profile:
        StepProfile.check()
    task = get_task(task)
    if class_weights is not None and not hasattr(task, "labels"):
        raise ValueError(f"class_weights={class_weights!r}: {task.name} has no classes, leave it out")
    warmup = arguments["warmup"] = getattr(task, "warmup", WARMUP) if warmup is None else warmup
    least = getattr(task, "least_batch", 1)
    if batch_tokens is None and batch_size < least:
        raise ValueError(f"batch_size={batch_size}: {task.name} with these options needs at least {least}")
    columns = check_columns(columns)
    examples = task.read(train, columns)
    held_out = None if validation is None else task.read(validation, columns)
    task = task.learn(examples)

    keras.utils.set_random_seed(seed)
    task, preprocessor, built = _load_model(task, model, sequence_length, truncation, precision, dropout)
    features = task.encode(preprocessor, [given for given, _ in examples])
    targets = task.training_targets(features, examples, class_weights)
    if held_out is not None:
        held_out_features = task.encode(preprocessor, [given for given, _ in held_out])
        task.training_targets(held_out_features, held_out)  # an unknown label is an error before the work
        held_out = held_out_features, held_out
    _warn_of_cut(task, features, preprocessor)
    batches = buckets.batches_of_epochs(features, epochs, batch_size, batch_tokens, seed, least)
    result = TaskModel(task, preprocessor, built)
    arguments["sequence_length"] = preprocessor.sequence_length
    arguments["truncation"] = preprocessor.truncation
    arguments["precision"] = built.get_layer("word_embeddings").dtype_policy.name
    identity = {
        "task": task.name,
        **options_of(task),
        **arguments,
        "data": fingerprint([examples, held_out and held_out[1]], result.model.variables),
    }
    state = RunState(output.with_name(output.name + ".unfinished"), identity)
    events = TensorBoardEvents(state.folder / "tensorboard") if tensorboard else None
    profiles = [StepProfile(state.folder / "tensorboard")] if profile else []
    optimizer = optimization.adamw(learning_rate, sum(map(len, batches)), warmup, weight_decay, 1, EPSILON)
    trainer = _compile(result, optimizer)
    _seed_random_layers(trainer, seed)
    loop = TrainingLoop(result, trainer, state, arguments, checkpoint_minutes, events, profiles)
    say(f"{task.name}: {task.describe()}")
    try:
        history = loop.run(features, targets, batches, held_out)
    except FloatingPointError:
        shutil.rmtree(state.folder)  # there is nothing to go on from
        raise
    if held_out and task.is_tuned:
        result.task = task.tuned(result.predict(held_out[0], batch_size), *held_out)
    _warn_if_collapsed(result, held_out[1] if held_out else examples)
    details = {"recipe": arguments, "train_examples": len(examples), "seconds": time.monotonic() - started}
    _save(result, output, state.folder, history, details)
    return result


def _load_model(task, model, sequence_length, truncation, precision, dropout):
    """The task, the preprocessor, and the task's model, of a handle or of a pair that the user has loaded."""
    if is_loaded(model):
        if precision is not None:
            raise ValueError(
                f"precision={precision!r} comes too late for a loaded encoder: load it with dtype"
            )
        preprocessor, encoder = model
        built = task.build(encoder, dropout)
    else:
        checkpoint = open_checkpoint(model)
        preprocessor = build_preprocessor(checkpoint)
        if sequence_length is None:
            sequence_length = min(task.sequence_length, preprocessor.sequence_length)
        task = task.started(checkpoint) if hasattr(task, "started") else task
        dtype = precision or "float32"
        if hasattr(task, "pretrained") and task.head in checkpoint.heads:
            built = task.pretrained(checkpoint.build("pretrainer", dtype)[1])
        else:
            built = task.build(checkpoint.build(None, dtype)[1], dropout)
    if sequence_length is not None:
        preprocessor = preprocessor.replace(sequence_length=sequence_length)
    if truncation is not None:
        preprocessor = preprocessor.replace(truncation=truncation)
    check_sequence_length(preprocessor.sequence_length, built)
    return task, prepared(task, preprocessor), built


def _plain(value):
    """A number of NumPy as one of Python, anything else as it is."""
    return value.item() if hasattr(value, "item") else value


def _seed_random_layers(model, seed):
    """Starts dropout and masks from `seed`, whenever and by whom the layers were made."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            variable.assign(np.array([random.integers(2**31), 0], variable.dtype))


def _compile(result, optimizer):
    """A model of the same layers to be trained; `result.model` stays as it is to be saved."""
    trainer = result.task.training_model(result.model, result.preprocessor)
    # XLA would compile anew for each length, and is slower on a CPU; JAX has nothing else.
    jit_compile = "auto" if keras.config.backend() == "jax" else False
    trainer.compile(optimizer, jit_compile=jit_compile, **result.task.compile_options())
    return trainer


def _warn_of_cut(task, features, preprocessor):
    if features.cut:
        number = len(set(features.examples.tolist())) * features.group
        remedy = ""
        if not task.per_piece and getattr(task, "stride", 0) is None:
            remedy = ", or read long texts in windows, see the task's stride"
        warnings.warn(
            f"{features.cut:,} of {number:,} inputs ({features.cut / number:.0%}) do not fit in "
            f"sequence_length={preprocessor.sequence_length} and are cut: give a larger one{remedy}",
            stacklevel=3,
        )


def _warn_if_collapsed(result, examples):
    order = np.random.default_rng(0).permutation(len(examples))  # the file may be sorted by label
    some = [examples[i] for i in order[:512]]
    if len({str(target) for _, target in some}) == 1:
        return
    # Most often a few show that it has not, without a graph; of uneven labels more are needed.
    if _has_collapsed(result, some[:64], once=True) and _has_collapsed(result, some, once=False):
        warnings.warn(
            f"the model gives all of {len(some)} texts the same answer: the training collapsed, or the "
            "labels are very uneven. Try a lower learning rate, more epochs or another seed; for one "
            "label a text, class_weights='balanced' too",
            stacklevel=3,
        )


def _has_collapsed(result, examples, once):
    features = result.task.encode(result.preprocessor, [given for given, _ in examples])
    return result.task.collapsed(result.predict(features, once=once), features)


def _save(result, output, unfinished, history, details):
    """Writes the run folder and then removes the folder of the unfinished run."""
    details |= run_folder.facts(PACKAGES)
    with files.whole(output) as temporary:
        temporary.mkdir()
        result.save(temporary, **details)
        run_folder.write_history(temporary, history, unfinished)
    shutil.rmtree(unfinished)
