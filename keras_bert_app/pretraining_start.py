"""What a pretraining run starts from: random weights of a config, or those of a checkpoint."""

import dataclasses
from pathlib import Path

from keras_bert_app import handles
from keras_bert_app.checkpoints import tokenizers
from keras_bert_app.config import BertConfig
from keras_bert_app.encoder import bert_encoder
from keras_bert_app.heads import PRETRAINING_HEADS, mlm_numbers, pretrainer
from keras_bert_app.preprocessing.vocabulary_file import checksum, read_vocabulary
from keras_bert_app.progress import say

HEAD_LAYERS = ("mlm_dense", "mlm_norm", "mlm_logits", "nsp_logits")


class Start:
    """A config or a checkpoint, and the vocabulary that belongs to it.

    Args:
        model: `BertConfig`, the path of a `.json` file with one, or a handle for `open_checkpoint`.
        vocabulary: path of a `vocab.txt` or a `BertTokenizer`, for a config; else None.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: it cannot be used, or it has a vocabulary of its own.
    """

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
            raise ValueError("a config has no vocabulary: give one, the path of a vocab.txt")
        given = self.vocabulary
        return given if isinstance(given, BertTokenizer) else BertTokenizer(given)

    def check_length(self, length):
        """Raises ValueError if the model does not take so many word pieces."""
        if length > self.config.max_position_embeddings:
            raise ValueError(
                f"stages: sequence_length={length}, this model takes at most "
                f"{self.config.max_position_embeddings}: shorten it, or raise max_position_embeddings"
            )

    @property
    def trained_positions(self):
        """How many positions are trained before the run."""
        return self.config.max_position_embeddings if self.checkpoint else 0

    def check_size(self, size):
        """Raises ValueError if the model has fewer tokens than a vocabulary."""
        if size > self.config.vocab_size:
            raise ValueError(
                f"the vocabulary has {size} tokens, the model vocab_size={self.config.vocab_size}: "
                "they do not belong together"
            )

    def check_vocabulary(self, shards):
        """Raises ValueError unless the examples' ids are those of the model."""
        self.check_size(shards.details["vocab_size"])
        vocabulary, casing = self._vocabulary()
        if vocabulary is not None and checksum(vocabulary) != shards.details["vocabulary_crc32"]:
            raise ValueError(
                f"the examples in {shards.folder} were prepared with another vocabulary than the model's: "
                "prepare them again with this one"
            )
        theirs = {name: shards.details[name] for name in tokenizers.casing()}
        if casing not in (None, theirs):
            raise ValueError(
                f"the examples in {shards.folder} were prepared with {theirs}, the model has {casing}: "
                "prepare them again with the model's tokenizer"
            )

    def _vocabulary(self):
        """The tokens and the casing that belong to the model; None where nothing says so."""
        given = self.vocabulary
        if self.checkpoint:
            known = self.checkpoint.tokenizer
        elif given is None or isinstance(given, str | Path):
            known = given and {"vocabulary": given}
        else:
            known = {**vars(given), "vocabulary": given.vocabulary}
        if not known:
            return None, None
        tokens, casing = known["vocabulary"], None
        if "lowercase" in known:
            casing = tokenizers.casing(known["lowercase"], known.get("strip_accents"))
        return read_vocabulary(tokens) if isinstance(tokens, str | Path) else tokens, casing

    def build(self, heads, precision, dropout):
        """The model to be trained, with the weights that there are.

        Args:
            heads: of `PRETRAINING_HEADS`.
            precision: Keras dtype policy.
            dropout: rate in the place of both of the config, or None.

        Returns:
            `keras.Model`, see `pretrainer`.
        """
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

    def say_heads(self, heads):
        """Says which heads of a checkpoint are not trained, and which are new.

        Args:
            heads: of `PRETRAINING_HEADS`, that are trained.
        """
        if self.checkpoint is None:
            return
        known = set(PRETRAINING_HEADS) & set(self.checkpoint.heads)
        for head in sorted(set(heads) - known):
            say(f"the {head} head starts from random weights")
        for head in sorted(known - set(heads)):
            say(f"the {head} head is left out, the examples are not for it")
