"""Pretraining: from raw text to a BERT, or from a BERT to one that knows a field."""

import dataclasses
import hashlib
import json
import os
import resource
import shutil
import sys
import zlib
from importlib import metadata
from pathlib import Path

import keras
import numpy as np

from keras_bert_app import __version__, files, handles, optimization
from keras_bert_app.checkpointing import RunState, fingerprint
from keras_bert_app.checkpoints import saving, tokenizers
from keras_bert_app.config import BertConfig
from keras_bert_app.data.shards import MANIFEST, Shards
from keras_bert_app.encoder import bert_encoder, encoder_config
from keras_bert_app.heads import PRETRAINING_HEADS, mlm_numbers, pretrainer
from keras_bert_app.preparation import prepare_examples
from keras_bert_app.preprocessing.masking import MaskedLMMasker
from keras_bert_app.preprocessing.vocabulary_file import VOCABULARY_FILE, read_vocabulary
from keras_bert_app.pretraining_loop import PretrainingLoop, Stage
from keras_bert_app.progress import TensorBoardEvents, plot_history, say

PRECISIONS = (None, "float32", "mixed_bfloat16")
BATCH_SIZE = 64
HEAD_LAYERS = ("mlm_dense", "mlm_norm", "mlm_logits", "nsp_logits")


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
        learning_rate: the highest; BERT's is 1e-4, smaller models like up to 1e-3.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: of all weights but biases and layer normalization.
        gradient_accumulation: batches of one step; the step is as one with a batch so many times
            as large.
        dropout: rate while pretraining, in the place of both of the config, which the saved model
            keeps.
        masking: dict of arguments of `MaskedLMMasker`.
        preparation: dict of arguments of `prepare_examples`, for texts.
        precision: `"float32"`, the default, or `"mixed_bfloat16"`.
        validate_every: steps between two validations.
        checkpoint_minutes: time between two saves of the state.
        tensorboard: also write events for TensorBoard to `tensorboard/` in the output.
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

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3.1 and appendix A.2.
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
    _check_arguments(**arguments)
    output = Path(output)
    if output.exists():
        raise FileExistsError(f"{output} exists: choose another output folder, or remove it")
    if tensorboard:
        TensorBoardEvents.check()
    start = _Start(model, vocabulary)
    unfinished = output.with_name(output.name + ".unfinished")
    folders = _prepared_folders(data)
    if folders is None:
        lengths = [length for length, _, _ in arguments["stages"]]
        for length in lengths:
            start.check_length(length)
        folders = _prepare(data, start.tokenizer(), lengths, unfinished, preparation or {})
    elif preparation:
        raise ValueError("preparation is for texts, and these examples are prepared already: leave it out")
    shards = _open(folders)
    examples = shards[min(shards)]
    start.check_vocabulary(examples)
    keras.utils.set_random_seed(seed)
    heads = PRETRAINING_HEADS[: 1 if examples.objective == "masked_lm" else 2]
    trained = start.build(heads, arguments["precision"], dropout)
    planned = _stages(arguments["stages"], shards, gradient_accumulation, start)
    masker = MaskedLMMasker(examples.folder / "tokenizer" / VOCABULARY_FILE, **arguments["masking"])
    identity = {**arguments, "data": _fingerprint(shards, trained)}
    state = RunState(unfinished, identity)
    events = TensorBoardEvents(unfinished / "tensorboard") if tensorboard else None
    optimizer = optimization.adamw(
        learning_rate, planned[-1].end // gradient_accumulation, warmup, weight_decay, gradient_accumulation
    )
    loop = PretrainingLoop(
        trained, masker, optimizer, planned, state, seed=seed,
        validate_every=validate_every * gradient_accumulation, batches_per_step=gradient_accumulation,
        checkpoint_minutes=checkpoint_minutes, events=events,
    )  # fmt: skip
    try:
        history = loop.run()
    except FloatingPointError:
        (unfinished / "state.npz").unlink(missing_ok=True)  # there is nothing to go on from
        raise
    details = {"recipe": arguments, "examples": {n: s.details for n, s in shards.items()}}
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


def _check_arguments(**given):
    for name in ("gradient_accumulation", "validate_every"):
        if type(given[name]) is not int or given[name] < 1:
            raise ValueError(f"{name}={given[name]!r}: give a whole number of at least 1")
    if not 0 < given["learning_rate"] < np.inf:
        raise ValueError(f"learning_rate={given['learning_rate']!r}: give a number above 0, such as 1e-4")
    for name in ("warmup", "dropout"):
        if (name, given[name]) != ("dropout", None) and not 0 <= given[name] < 1:
            raise ValueError(f"{name}={given[name]!r}: give a share of at least 0 and below 1")
    if given["precision"] not in PRECISIONS:
        raise ValueError(f"precision={given['precision']!r}: one of {', '.join(PRECISIONS[1:])}")


class _Start:
    """What the training starts from: a config, or a checkpoint."""

    def __init__(self, model, vocabulary):
        self.vocabulary = vocabulary
        self.checkpoint = None
        if isinstance(model, str | Path) and str(model).endswith(".json"):
            model = BertConfig.from_json(model)
        if isinstance(model, BertConfig):
            self.config = model
        elif vocabulary is None:
            self.checkpoint = handles.open_checkpoint(model)
            self.config = self.checkpoint.config
        else:
            raise ValueError(f"vocabulary is for a config: {model} has its own. Leave it out")

    def tokenizer(self):
        """The `BertTokenizer` for texts."""
        from keras_bert_app.preprocessing.tokenizer import BertTokenizer

        if self.checkpoint:
            return handles.build_preprocessor(self.checkpoint).tokenizer
        if self.vocabulary is None:
            raise ValueError("a config has no vocabulary: give one, such as vocabulary='vocab.txt'")
        given = self.vocabulary
        return given if isinstance(given, BertTokenizer) else BertTokenizer(given)

    def check_length(self, length):
        if length > self.config.max_position_embeddings:
            raise ValueError(
                f"stages: sequence_length={length}, this model takes at most "
                f"{self.config.max_position_embeddings}: shorten it, or raise max_position_embeddings"
            )

    def check_vocabulary(self, shards):
        """Raises ValueError unless the examples' ids are those of the model."""
        size = shards.details["vocab_size"]
        if size > self.config.vocab_size:
            raise ValueError(
                f"the vocabulary has {size} tokens, the model vocab_size={self.config.vocab_size}: "
                "they do not belong together"
            )
        given = self.checkpoint.tokenizer if self.checkpoint else {"vocabulary": self.vocabulary}
        vocabulary = (given or {}).get("vocabulary")
        if vocabulary is None:
            return
        if isinstance(vocabulary, str | Path):
            vocabulary = read_vocabulary(vocabulary)
        tokens = getattr(vocabulary, "vocabulary", vocabulary)
        if zlib.crc32("\n".join(tokens).encode()) != shards.details["vocabulary_crc32"]:
            raise ValueError(
                f"the examples in {shards.folder} were prepared with another vocabulary than the model's: "
                "prepare them again with this one"
            )

    def build(self, heads, precision, dropout):
        """The model to be trained, with the weights that there are."""
        rates = {}
        if dropout is not None:
            rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        config = dataclasses.replace(self.config, **rates)
        if self.checkpoint is None:
            return pretrainer(bert_encoder(config, precision), heads)
        checkpoint = dataclasses.replace(self.checkpoint, config=config)
        known = [head for head in PRETRAINING_HEADS if head in checkpoint.heads]
        encoder, loaded = checkpoint.build("pretrainer" if known else None, precision)
        if known == list(heads):
            return loaded
        activation, epsilon = mlm_numbers(loaded)
        model = pretrainer(encoder, heads, activation, epsilon)
        for name in HEAD_LAYERS:
            old, new = ({layer.name: layer for layer in m.layers}.get(name) for m in (loaded, model))
            for ours, theirs in zip(new.weights if new else (), old.weights if old else (), strict=False):
                ours.assign(theirs)
        return model


def _prepared_folders(data):
    """The folders of prepared examples, or None if `data` are texts."""
    paths = [Path(p) for p in ([data] if isinstance(data, str | os.PathLike) else data)]
    prepared = [(path / MANIFEST).is_file() for path in paths]
    if any(prepared) and not all(prepared):
        raise ValueError(
            f"{paths[prepared.index(False)]} holds no prepared examples, {paths[prepared.index(True)]} does: "
            "give texts or prepared examples, not both"
        )
    return paths if any(prepared) else None


def _prepare(sources, tokenizer, lengths, unfinished, options):
    """Prepares the examples of each length, unless an earlier start of the run did."""
    given = {"sequence_length", "shard"} & set(options)
    if given:
        raise ValueError(f"preparation: {', '.join(sorted(given))} cannot be given: use prepare_examples")
    folders = []
    for length in sorted(set(lengths)):
        folder = unfinished / f"examples-{length}"
        if not folder.exists():
            say(f"preparing examples of length {length}")
            with files.writing(unfinished):
                unfinished.mkdir(parents=True, exist_ok=True)
            count = prepare_examples(sources, tokenizer, folder, sequence_length=length, **options)
            say("  ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in count.items()))
        folders.append(folder)
    return folders


def _open(folders):
    """dict from length to the `Shards` of it."""
    by_length = {}
    for folder in folders:
        by_length.setdefault(Shards(folder).sequence_length, []).append(folder)
    shards = {length: Shards(*group) for length, group in sorted(by_length.items())}
    kinds = {(s.objective, s.details["vocabulary_crc32"]) for s in shards.values()}
    if len(kinds) > 1:
        raise ValueError(
            f"{', '.join(map(str, folders))} were prepared with different objectives or vocabularies: "
            "prepare them alike"
        )
    return shards


def _stages(stages, shards, accumulation, start):
    """The `Stage` of each of `stages`; their steps count batches."""
    planned, first = [], 0
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
        planned.append(Stage(shards[length], batch_size, first, first + steps * accumulation))
        first = planned[-1].end
    return planned


def _fingerprint(shards, model):
    """A hash of the examples, the texts they are from aside, and of the first weights."""
    manifests = {length: [s.details, s.crc32s] for length, s in shards.items()}
    manifests = json.dumps(manifests, sort_keys=True)
    return hashlib.sha256((manifests + fingerprint([], model.weights)).encode()).hexdigest()


def _save(model, output, unfinished, tokenizer, history, details):
    """Writes the output folder and then removes the folder of the unfinished run."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    packages = {"keras": metadata.version("keras"), "keras_bert_app": __version__}
    details |= {
        "seconds": sum(row["seconds"] for row in history),
        "backend": keras.config.backend(),
        "peak_memory_mib": peak,
        "versions": packages,
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
        files.write_json(temporary / "history.json", history)
        plot_history(history, temporary / "curves.png")
        if (unfinished / "tensorboard").exists():
            shutil.copytree(unfinished / "tensorboard", temporary / "tensorboard")
    shutil.rmtree(unfinished)
