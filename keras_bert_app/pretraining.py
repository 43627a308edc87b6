"""Pretraining: from raw text to a BERT, or from a BERT to one that knows a field."""

import hashlib
import json
import shutil
from pathlib import Path

import keras

from keras_bert_app import files, optimization, run_folder
from keras_bert_app.arguments import check_arguments
from keras_bert_app.checkpointing import RunState, fingerprint
from keras_bert_app.checkpoints import saving, tokenizers
from keras_bert_app.encoder import encoder_config
from keras_bert_app.heads import PRETRAINING_HEADS
from keras_bert_app.preprocessing.masking import MaskedLMMasker
from keras_bert_app.preprocessing.vocabulary_file import VOCABULARY_FILE, read_vocabulary
from keras_bert_app.pretraining_data import open_all, prepare_all, prepared_folders
from keras_bert_app.pretraining_loop import PretrainingLoop, Stage, copy_positions
from keras_bert_app.pretraining_start import Start
from keras_bert_app.profiling import StepProfile
from keras_bert_app.progress import TensorBoardEvents

BATCH_SIZE = 64


def pretrain(
    data,
    *,
    model,
    output,
    vocabulary=None,
    stages=((128, 10_000, BATCH_SIZE),),
    learning_rate=1e-4,
    warmup=0.01,
    weight_decay=0.01,
    gradient_accumulation=1,
    dropout=None,
    masking=None,
    preparation=None,
    precision=None,
    validate_every=1000,
    checkpoint_minutes=10,
    tensorboard=False,
    profile=False,
    seed=0,
):
    """Pretrains a BERT with the masked language model and a sentence objective.

    AdamW with warm-up, linear decay and clipping; the masks are drawn anew for every batch.
    `OUTPUT.unfinished` holds the state, which is saved every few minutes and when the process is
    asked to end (SIGTERM, Ctrl-C). A run that was stopped or killed goes on from there when it is
    started again with the same arguments, and ends with the same weights (but for dropout on the
    Torch backend, whose random numbers are not part of the state).

    Args:
        data: texts, see `prepare_examples`; or the folders of prepared examples: one for each
            length in `stages`, or several that belong together. On the JAX and Torch backends
            prepared examples need no TensorFlow.
        model: `BertConfig` or the path of a `.json` file with one, to start from random weights;
            or a handle for `open_checkpoint`, to go on with its weights.
        output: folder to be written, which `from_pretrained` and Hugging Face's Transformers read.
        vocabulary: path of the `vocab.txt`, for a config and texts; or a `BertTokenizer`.
        stages: list of `(sequence_length, steps)` or `(sequence_length, steps, batch_size)`. BERT
            was trained for nine tenths of its steps with 128, then with 512. Default batch size: 64.
            From random weights, positions that no stage before has trained start as copies of those
            that one has, and those that none trains are copies in the end: the model then takes longer
            texts than it has seen.
        learning_rate: the highest; BERT's is 1e-4, smaller models like up to 1e-3.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: of all weights but biases and layer normalization.
        gradient_accumulation: batches of one step, whose gradients are averaged: nearly as one batch
            so many times as large, in which every masked piece would count alike.
        dropout: rate while pretraining, in the place of both of the config, which the saved model
            keeps.
        masking: dict of arguments of `MaskedLMMasker`.
        preparation: dict of arguments of `prepare_examples`, for texts.
        precision: `"float32"`, the default, or `"mixed_bfloat16"`.
        validate_every: steps between two validations, each on at most 10,000 examples.
        checkpoint_minutes: time between two saves of the state.
        tensorboard: also write events for TensorBoard to `tensorboard/` in the output.
        profile: also print where the time of five steps went, and write a trace of them for TensorBoard's
            profiler to `tensorboard/` in the output. TensorFlow only; the print is of the CPU.
        seed: of weights, order, masks and dropout.

    Returns:
        Path of `output`. It holds `model.safetensors`, `config.json`, the tokenizer's files,
        `pretraining.json`, `history.json` and `curves.png`.

    Raises:
        FileExistsError: `output` exists.
        FileNotFoundError: the data or the model are missing.
        ValueError: an argument or the data cannot be used, or they do not fit each other.
        FloatingPointError: the loss is no longer a number.
        OSError: `output` cannot be written.

    Example:

    ```python
    kba.pretrain(
        "corpus/*.txt", model="bert_config.json", vocabulary="vocab.txt", output="my-bert",
        stages=[(32, 20, 8)],
    )
    preprocessor, encoder = kba.from_pretrained("my-bert")
    ```

    References: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3.1 and appendix A.2;
    for the copies of positions [Beltagy et al., 2020](https://arxiv.org/abs/2004.05150), section 5.
    """
    arguments = {
        "stages": _check_stages(stages),
        "learning_rate": learning_rate,
        "warmup": warmup,
        "weight_decay": weight_decay,
        "gradient_accumulation": gradient_accumulation,
        "dropout": dropout,
        "masking": dict(masking or {}),
        "precision": precision or "float32",
        "validate_every": validate_every,
        "seed": seed,
    }
    check_arguments({**arguments, "checkpoint_minutes": checkpoint_minutes}, optional=("dropout",))
    for name in ("vocabulary", "seed"):
        if name in arguments["masking"]:
            raise ValueError(f"masking: {name} cannot be given: it is that of the run")
    MaskedLMMasker(**arguments["masking"])  # a wrong option is an error before the work
    output = Path(output)
    if output.exists():
        raise FileExistsError(f"{output} exists: choose another output folder, or remove it")
    if tensorboard:
        TensorBoardEvents.check()
    if profile:
        StepProfile.check()
    start = Start(model, vocabulary)
    unfinished = output.with_name(output.name + ".unfinished")
    folders = prepared_folders(data)
    if folders is None:
        lengths = [length for length, _, _ in arguments["stages"]]
        for length in lengths:
            start.check_length(length)
        tokenizer = start.tokenizer()
        start.check_size(tokenizer.vocabulary_size)
        folders = prepare_all(data, tokenizer, lengths, unfinished, preparation or {})
    elif preparation:
        raise ValueError("preparation is for texts, and these examples are prepared already: leave it out")
    shards = open_all(folders)
    examples = shards[min(shards)]
    start.check_vocabulary(examples)
    keras.utils.set_random_seed(seed)
    heads = PRETRAINING_HEADS[: 1 if examples.objective == "masked_lm" else 2]
    start.say_heads(heads)
    trained = start.build(heads, arguments["precision"], dropout)
    planned = _stages(arguments["stages"], shards, gradient_accumulation, start)
    masker = MaskedLMMasker(examples.folder / "tokenizer" / VOCABULARY_FILE, **arguments["masking"])
    identity = {**arguments, "data": _fingerprint(shards, trained)}
    state = RunState(unfinished, identity)
    events = TensorBoardEvents(unfinished / "tensorboard") if tensorboard else None
    profiles = [StepProfile(unfinished / "tensorboard")] if profile else []
    optimizer = optimization.adamw(
        learning_rate, planned[-1].end // gradient_accumulation, warmup, weight_decay, gradient_accumulation
    )
    loop = PretrainingLoop(
        trained, masker, optimizer, planned, state, seed=seed,
        validate_every=validate_every * gradient_accumulation, batches_per_step=gradient_accumulation,
        checkpoint_minutes=checkpoint_minutes, events=events, callbacks=profiles,
    )  # fmt: skip
    try:
        history = loop.run()
    except FloatingPointError:
        (unfinished / "state.npz").unlink(missing_ok=True)  # there is nothing to go on from
        raise
    copy_positions(trained, max(start.trained_positions, *(length for length, _, _ in arguments["stages"])))
    details = {"recipe": arguments, "examples": {n: s.manifests for n, s in shards.items()}}
    result = start.build(heads, "float32", None)
    for ours, theirs in zip(result.weights, trained.weights, strict=True):
        ours.assign(theirs)
    _save(result, output, unfinished, examples.folder / "tokenizer", history, details)
    return output


def _check_stages(stages):
    """`stages` as a list of `(sequence_length, steps, batch_size)`."""
    checked = []
    for stage in stages:
        numbers = [*stage, BATCH_SIZE][:3] if isinstance(stage, tuple | list) and len(stage) < 4 else [None]
        if len(numbers) < 3 or any(type(number) is not int or number < 1 for number in numbers):
            raise ValueError(
                f"stages: {stage!r} is no (sequence_length, steps) or (sequence_length, steps, batch_size): "
                "give whole numbers, such as (128, 9000, 64)"
            )
        checked.append(numbers)
    if not checked:
        raise ValueError("stages is empty: give at least one, such as (128, 9000, 64)")
    return checked


def _stages(stages, shards, accumulation, start):
    """The `Stage` of each of `stages`; their steps count batches."""
    planned, first = [], 0
    trained = start.trained_positions
    for length, steps, batch_size in stages:
        start.check_length(length)
        if length not in shards:
            raise ValueError(
                f"stages: there are no examples of sequence_length={length}, but of "
                f"{', '.join(map(str, shards))}: prepare some, or change the stage"
            )
        if not shards[length].num_batches("train", batch_size):
            raise ValueError(
                f"{shards[length].num_examples('train')} examples of length {length} do not fill one batch "
                f"of {batch_size}: choose a smaller batch size, or give more text"
            )
        planned.append(Stage(shards[length], batch_size, first, first + steps * accumulation, trained))
        first = planned[-1].end
        trained = max(trained, length)
    return planned


def _fingerprint(shards, model):
    """A hash of the examples and of the first weights."""
    manifests = {length: [s.manifests, s.crc32s] for length, s in shards.items()}
    manifests = json.dumps(manifests, sort_keys=True)
    return hashlib.sha256((manifests + fingerprint([], model.weights)).encode()).hexdigest()


def _save(model, output, unfinished, tokenizer, history, details):
    """Writes the output folder and then removes the folder of the unfinished run."""
    details |= {
        "seconds": sum(row["seconds"] for row in history),
        "backend": keras.config.backend(),
        **run_folder.facts(["keras"]),
    }
    with files.whole(output) as temporary:
        saving.save_checkpoint(model, temporary)
        shutil.copytree(tokenizer, temporary, dirs_exist_ok=True)
        limit = {"model_max_length": encoder_config(model).max_position_embeddings}
        path = temporary / "tokenizer_config.json"
        files.write_json(path, {**tokenizers.read_json(path), **limit})
        padding = {"pad_token_id": read_vocabulary(temporary / VOCABULARY_FILE).index("[PAD]")}
        path = temporary / "config.json"
        files.write_json(path, {**tokenizers.read_json(path), **padding})
        files.write_json(temporary / "pretraining.json", details)
        run_folder.write_history(temporary, history, unfinished)
    shutil.rmtree(unfinished)
