"""A checkpoint of any format: what it holds, and how a model is filled from it."""

import dataclasses
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from keras_bert_app import heads as builders
from keras_bert_app.checkpoints.names import HEADS
from keras_bert_app.config import BertConfig
from keras_bert_app.encoder import bert_encoder

FLOATS = ("float32", "float16", "bfloat16", "float64")
MODELS = ("pretrainer", "text_classifier", "token_classifier", "span_classifier")


@dataclasses.dataclass(frozen=True)
class Tensors:
    """The tensors of a file, which are read one at a time.

    Args:
        path: of the file, for messages.
        shapes: dict from name to shape.
        read: function of a name that returns the array.
    """

    path: Path
    shapes: dict
    read: Callable


@dataclasses.dataclass
class Checkpoint:
    """What a folder of any supported format holds; see `kba.open_checkpoint`.

    Args:
        format: `"huggingface"`, `"google"`, `"model_garden"`, `"tfhub"`, `"keras_hub"` or
            `"keras_bert_app"`.
        config: `BertConfig`.
        tokenizer: dict, the arguments of `BertTokenizer`, or None if there is no vocabulary.
        tensors: `Tensors`.
        names: dict from the path of each variable, those of all heads too, to `(names, layout)`,
            see `names.Table`.
        leftovers: pattern of the names of tensors that are no weights.
        labels: list of a classifier's labels, or None.
        sequence_length, truncation: of the preprocessing that belongs to it, or None.
        mlm_activation: of the masked language model's dense layer. Defaults to that of the encoder.
        mlm_epsilon: of its layer normalization. Defaults to that of the encoder.
        problem_type: of a classifier, in the words of Hugging Face; or None.
        sentence_encoder: dict of the `pooling` and `normalize` with which it was trained, or empty.
    """

    format: str
    config: BertConfig
    tokenizer: dict | None
    tensors: Tensors
    names: dict
    leftovers: str
    labels: list | None = None
    sequence_length: int | None = None
    truncation: str | None = None
    mlm_activation: str | None = None
    mlm_epsilon: float | None = None
    problem_type: str | None = None
    sentence_encoder: dict = dataclasses.field(default_factory=dict)

    @property
    def heads(self):
        """The heads in the file, tuple of `"masked_lm"`, `"next_sentence"`, `"text_classifier"`, ..."""
        return tuple(head for head, paths in HEADS.items() if any(map(self.name_of, paths)))

    @property
    def mlm_numbers(self):
        """The activation and the epsilon of the masked language model's head, whether there is one or not."""
        epsilon = self.config.layer_norm_eps if self.mlm_epsilon is None else self.mlm_epsilon
        return self.mlm_activation or self.config.hidden_act, epsilon

    @property
    def model(self):
        """The function that builds the model in the file, such as `"pretrainer"`; None for an encoder."""
        found = {"pretrainer" if h in builders.PRETRAINING_HEADS else h for h in self.heads}
        return next((name for name in MODELS if name in found), None)

    def name_of(self, path):
        """The name in the file of the variable `path`, or None."""
        names, _ = self.names.get(path, ((), None))
        return next((name for name in names if name in self.tensors.shapes), None)

    def build(self, head=None, dtype=None, ignore=(), **options):
        """The encoder, and the model with a head, filled.

        Args:
            head: None for the encoder alone, or the function that builds the head: `"pretrainer"`,
                `"text_classifier"`, `"token_classifier"` or `"span_classifier"`.
            dtype: Keras dtype policy, see `bert_encoder`.
            ignore: patterns of names of tensors that are left out.
            options: of `bert_encoder`.

        Returns:
            `(encoder, model)`, the same model if `head` is None.

        Raises:
            ValueError: the file has no such head; or see `fill`.
        """
        self._check_sizes()
        encoder = bert_encoder(self.config, dtype, **options)
        model = encoder if head is None else self._add_head(encoder, head)
        variables = {variable.path: variable for variable in [*encoder.weights, *model.weights]}
        fresh = fill(variables.values(), self, ignore)
        if fresh and any(variable.path.startswith("pooler/") for variable in model.weights):
            if head is not None:
                raise ValueError(f"{self.tensors.path} lacks tensors: {', '.join(fresh)}")
            warnings.warn(
                f"{self.tensors.path} has no pooler: {', '.join(fresh)} start with fresh weights",
                stacklevel=3,
            )
        return encoder, model

    def _check_sizes(self):
        """Raises ValueError if the file has not the sizes of the config, before memory is taken for them."""
        config = self.config
        for path, shape in {
            "word_embeddings/embeddings": (config.vocab_size, config.hidden_size),
            "position_embeddings/embeddings": (config.max_position_embeddings, config.hidden_size),
            "type_embeddings/embeddings": (config.type_vocab_size, config.hidden_size),
            "layer_0/intermediate/kernel": (config.hidden_size, config.intermediate_size),
        }.items():
            if self.check_shape(path, shape) is None:
                raise ValueError(f"{self.tensors.path} lacks tensors: {self.names[path][0][0]}")

    def check_shape(self, path, shape):
        """The name in the file of the variable `path` of `shape`, or None if it is not there.

        Raises:
            ValueError: it has another shape there.
        """
        name, (_, layout) = self.name_of(path), self.names[path]
        wanted = stored_shape(shape, layout, self.config.num_attention_heads)
        if name is not None and tuple(self.tensors.shapes[name]) != wanted:
            raise ValueError(
                f"{self.tensors.path}: {name} has shape {self.tensors.shapes[name]}, the config asks for "
                f"{wanted}: they are not of the same model"
            )
        return name

    def _add_head(self, encoder, head):
        if head not in MODELS:
            raise ValueError(f"head={head!r}: one of {', '.join(MODELS)}, or None")
        found = self.heads
        if head == "pretrainer" and set(found) & set(builders.PRETRAINING_HEADS):
            wanted = [name for name in builders.PRETRAINING_HEADS if name in found]
            return builders.pretrainer(encoder, wanted, self.mlm_activation, self.mlm_epsilon)
        if head not in found:
            raise ValueError(f"{self.tensors.path} has no {head}: its heads are {', '.join(found) or 'none'}")
        if head == "span_classifier":
            return builders.span_classifier(encoder)
        bias = self.name_of(HEADS[head][-1])
        if bias is None:
            raise ValueError(f"{self.tensors.path} lacks tensors: {self.names[HEADS[head][-1]][0][0]}")
        return getattr(builders, head)(encoder, self.tensors.shapes[bias][0])


def fill(variables, checkpoint, ignore=()):
    """Assigns every variable from a checkpoint, after a check of all names and shapes.

    A pooler that the file lacks, as models for tagging and question answering do, keeps its weights.

    Args:
        variables: Keras variables of an encoder, or of a model built on one.
        checkpoint: `Checkpoint`.
        ignore: patterns of names of tensors that are left out.

    Returns:
        Names, in the file, of the tensors of a pooler that is not there; else an empty list.

    Raises:
        ValueError: the file lacks a tensor, has one of another shape, or one that belongs nowhere;
            the message names it.
    """
    tensors = checkpoint.tensors
    found, missing = [], {}
    for variable in variables:
        if variable.path.endswith("seed_generator_state"):
            continue
        if variable.path not in checkpoint.names:
            raise ValueError(
                f"{tensors.path}: its format has no name for the variable {variable.path}: "
                "give an encoder, or a model with one of this package's heads, without LoRA"
            )
        names, layout = checkpoint.names[variable.path]
        name = checkpoint.check_shape(variable.path, variable.shape)
        if name is None:
            missing[variable.path] = names[0]
        else:
            found.append((variable, name, layout))
    pooler = [name for path, name in missing.items() if path.startswith("pooler/")]
    if len(pooler) != len(missing) or len(pooler) == 1:
        raise ValueError(f"{tensors.path} lacks tensors: {', '.join(missing.values())}")
    _check_rest(checkpoint, ignore)
    _check_ties(checkpoint, [variable.path for variable, *_ in found], ignore)
    for variable, name, layout in found:
        value = tensors.read(name)
        if value.dtype.name not in FLOATS:
            raise ValueError(
                f"{tensors.path}: {name} is {value.dtype.name}: weights must be {', '.join(FLOATS)}"
            )
        variable.assign(from_stored(value, variable.shape, layout))
    return pooler


def _check_ties(checkpoint, paths, ignore):
    """Raises ValueError if a file holds one variable under several names with different values."""
    tensors = checkpoint.tensors
    for path in paths:
        names, _ = checkpoint.names[path]
        kept = [name for name in names[1:] if not any(re.fullmatch(pattern, name) for pattern in ignore)]
        name, *others = [name for name in (names[0], *kept) if name in tensors.shapes]
        for other in others:
            if not np.array_equal(tensors.read(name), tensors.read(other)):
                raise ValueError(
                    f"{tensors.path}: {other} differs from {name}: in BERT they are one tensor, and "
                    "models in which they are two are not supported"
                )


def _check_rest(checkpoint, ignore):
    """Raises ValueError, naming them, if the file has tensors that belong nowhere."""
    known = {name for names, _ in checkpoint.names.values() for name in names}
    patterns = [checkpoint.leftovers, *ignore]
    rest = sorted(
        name
        for name in checkpoint.tensors.shapes
        if name not in known and not any(re.fullmatch(pattern, name) for pattern in patterns)
    )
    if rest:
        raise ValueError(
            f"{checkpoint.tensors.path} has tensors for which there is no place: {', '.join(rest)}. If "
            "they belong to a head or a layer that you do not need, leave them out with ignore=[pattern]"
        )


def stored_shape(shape, layout, num_heads):
    """The shape in a file of a variable of `shape`, see `names.LAYOUTS`."""
    shape = tuple(shape)
    if layout == "transposed":
        return shape[::-1]
    if layout == "heads_in":
        return (num_heads, shape[0] // num_heads, shape[1])
    if layout in ("heads", "heads_out"):
        return (*shape[:-1], num_heads, shape[-1] // num_heads)
    return shape


def from_stored(value, shape, layout):
    """The value of a variable of `shape` from what the file has."""
    value = value.T if layout == "transposed" else value
    return np.ascontiguousarray(value, dtype="float32").reshape(tuple(shape))


def to_stored(value, layout, num_heads):
    """What a file has for the `value` of a variable."""
    value = value.T if layout == "transposed" else value.reshape(stored_shape(value.shape, layout, num_heads))
    return np.ascontiguousarray(value, dtype="float32")
