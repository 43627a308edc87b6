"""`MaskedLMMasker`: which word pieces a masked language model has to guess."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_bert_app.preprocessing.vocabulary_file import (
    PACKAGE,
    SPECIAL_TOKENS,
    SUFFIX,
    VOCABULARY_FILE,
    check_vocabulary,
    read_vocabulary,
    write_vocabulary,
)


@keras.saving.register_keras_serializable(PACKAGE)
class MaskedLMMasker(keras.layers.Layer):
    """Hides word pieces of packed texts, for a masked language model to guess.

    Of the pieces of each row that are no special token or padding, on average
    `mask_selection_rate` are selected. Of these, `mask_token_rate` become `[MASK]`,
    `random_token_rate` another piece by chance, and the rest stays as it is. Every call selects
    others. It runs on any Keras backend, needs no TensorFlow on the others, and on TensorFlow
    also runs within `tf.data`.

    Args:
        vocabulary: path of a `vocab.txt`, the list of tokens, or a `BertTokenizer`.
        mask_selection_rate: share of the pieces that are selected.
        mask_token_rate: share of the selected pieces that become `[MASK]`.
        random_token_rate: share of the selected pieces that become another, any but the special
            tokens with equal chance.
        whole_word: True to select all pieces of a word or none.
        max_predictions: most pieces selected in a row. Defaults to `mask_selection_rate` of the
            length, rounded up: 20 of 128, 77 of 512.
        seed: int; the same seed gives the same selections in the same order of calls.

    Call arguments:
        inputs: dict of int32 `(batch, length)`, as from `BertPreprocessor`.

    Returns:
        the dict with `input_word_ids` masked and, besides, `masked_lm_positions` int32
        `(batch, predictions)`, where the selected pieces are, in their order;
        `masked_lm_ids` int32 `(batch, predictions)`, what they were; and
        `masked_lm_weights` float32 `(batch, predictions)`, 1.0, or 0.0 where a row has fewer:
        there position and id are 0.

    Raises:
        FileNotFoundError: there is no file `vocabulary`.
        ValueError: the vocabulary cannot be that of a BERT, or an option is not possible.

    Example:

    >>> tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "great", "film", "##s", "!"]
    >>> masker = MaskedLMMasker(tokens, mask_selection_rate=0.5, mask_token_rate=1.0, random_token_rate=0.0)
    >>> ids = keras.ops.array([[2, 5, 6, 7, 8, 3, 0]])
    >>> packed = {"input_word_ids": ids, "input_mask": keras.ops.cast(ids > 0, "int32")}
    >>> masked = masker(packed)
    >>> masked["masked_lm_ids"].shape, bool(keras.ops.all(masked["input_word_ids"][:, 0] == 2))
    (TensorShape([1, 4]), True)

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3.1; whole words:
    the README of [google-research/bert](https://github.com/google-research/bert), May 2019.
    """

    def __init__(
        self,
        vocabulary=None,
        mask_selection_rate=0.15,
        mask_token_rate=0.8,
        random_token_rate=0.1,
        whole_word=True,
        max_predictions=None,
        seed=0,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)  # what is passed on keeps its type
        if not 0 < mask_selection_rate < 1:
            raise ValueError(f"mask_selection_rate={mask_selection_rate!r}: give a share above 0 and below 1")
        for name, rate in (("mask_token_rate", mask_token_rate), ("random_token_rate", random_token_rate)):
            if not 0 <= rate <= 1:
                raise ValueError(f"{name}={rate!r}: give a share from 0 to 1")
        if mask_token_rate + random_token_rate > 1 + 1e-9:
            raise ValueError(
                f"mask_token_rate={mask_token_rate!r} and random_token_rate={random_token_rate!r} are more "
                "than 1 together: lower one"
            )
        if max_predictions is not None and (type(max_predictions) is not int or max_predictions < 1):
            raise ValueError(f"max_predictions={max_predictions!r}: give a whole number of at least 1")
        self.mask_selection_rate = mask_selection_rate
        self.mask_token_rate = mask_token_rate
        self.random_token_rate = random_token_rate
        self.whole_word = whole_word
        self.max_predictions = max_predictions
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self._vocabulary = None
        self.built = True  # there are no weights
        if vocabulary is not None:
            self._set_vocabulary(vocabulary)

    def _set_vocabulary(self, vocabulary):
        source = "the vocabulary"
        if isinstance(vocabulary, str | Path):
            source, vocabulary = vocabulary, read_vocabulary(vocabulary)
        vocabulary = getattr(vocabulary, "vocabulary", vocabulary)  # of a tokenizer
        check_vocabulary(vocabulary, source)
        self._vocabulary = tuple(vocabulary)
        self._is_special = np.array([token in SPECIAL_TOKENS for token in vocabulary])
        self._is_suffix = np.array([t.startswith(SUFFIX) and t != SUFFIX for t in vocabulary])
        self._others = np.flatnonzero(~self._is_special).astype("int32")
        if not self._others.size:
            raise ValueError(f"{source} has special tokens alone: there is nothing to mask")

    def most_predictions(self, length):
        """The number of columns of `masked_lm_positions` for rows of `length`.

        In a TensorFlow graph both may be a scalar tensor.
        """
        known = isinstance(length, int)
        most = self.max_predictions
        if most is None and known:
            most = int(np.ceil(round(self.mask_selection_rate * length, 6)))
        elif most is None:
            share = self.mask_selection_rate * ops.cast(length, "float64")
            most = ops.cast(ops.ceil(ops.round(share, 6)), "int32")
        return min(most, length) if known else ops.minimum(most, length)

    @property
    def vocabulary(self):
        """The tokens, a tuple; a token's place in it is its id.

        Raises:
            ValueError: there is none, as in a masker made of a configuration alone.
        """
        if self._vocabulary is None:
            raise ValueError(
                "the masker has no vocabulary, which a configuration does not hold: "
                "give the path of a vocab.txt, or load a .keras file"
            )
        return self._vocabulary

    def call(self, inputs):
        mask_id = self.vocabulary.index("[MASK]")
        ids = ops.cast(inputs["input_word_ids"], "int32")
        length = ops.shape(ids)[1]
        most = self.most_predictions(length)
        selected = self._select(ids, ops.not_equal(inputs["input_mask"], 0), most)
        where = ops.where(selected, ops.arange(length, dtype="int32"), length)
        positions = ops.sort(where, axis=1)[:, :most]  # (batch, predictions)
        used = positions < length
        positions = ops.where(used, positions, 0)
        originals = ops.where(used, ops.take_along_axis(ids, positions, axis=1), 0)

        draw = self._uniform(ops.shape(ids))
        number = ops.cast(self._uniform(ops.shape(ids)) * len(self._others), "int32")
        others = ops.take(ops.convert_to_tensor(self._others), number)
        random_below = self.mask_token_rate + self.random_token_rate
        hidden = ops.where(draw < random_below, others, ids)
        hidden = ops.where(draw < self.mask_token_rate, mask_id, hidden)
        return {
            **inputs,
            "input_word_ids": ops.where(selected, hidden, ids),
            "masked_lm_positions": positions,
            "masked_lm_ids": originals,
            "masked_lm_weights": ops.cast(used, "float32"),
        }

    def _select(self, ids, real, most):
        """Which pieces are to be guessed, bool `(batch, length)`."""
        batch, length = ops.shape(ids)
        free = ops.logical_and(real, ops.logical_not(ops.take(ops.convert_to_tensor(self._is_special), ids)))
        starts = free
        if self.whole_word:
            suffix = ops.take(ops.convert_to_tensor(self._is_suffix), ids)
            before = ops.pad(free[:, :-1], ((0, 0), (1, 0)))  # whether a word could go on here
            starts = ops.logical_and(free, ops.logical_not(ops.logical_and(suffix, before)))
        word = ops.cumsum(ops.cast(starts, "int32"), axis=1)  # (batch, length), from 1
        numbered = word + (length + 1) * ops.arange(batch, dtype="int32")[:, None]
        sizes = ops.segment_sum(
            ops.reshape(ops.cast(free, "float32"), (-1,)),
            ops.reshape(numbered, (-1,)),
            num_segments=batch * (length + 1),
        )
        sizes = ops.reshape(sizes, (batch, length + 1))  # pieces of each word, 0 where there is none
        # The words are taken in a random order, up to the number of pieces that are wanted. Of a word
        # that goes beyond it, the chance is the part that is within, so that the average is exact.
        order = ops.argsort(self._uniform((batch, length + 1)), axis=1)
        sizes = ops.take_along_axis(sizes, order, axis=1)
        through = ops.cumsum(sizes, axis=1)
        wanted = self.mask_selection_rate * through[:, -1:]  # (batch, 1)
        within = through - sizes + self._uniform((batch, 1)) * sizes < wanted
        taken = ops.logical_and(within, through <= ops.cast(most, "float32"))
        taken = ops.take_along_axis(taken, ops.argsort(order, axis=1), axis=1)  # in the order of the words
        return ops.logical_and(free, ops.take_along_axis(taken, word, axis=1))

    def _uniform(self, shape):
        return keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)

    def compute_output_spec(self, inputs):
        batch, length = inputs["input_word_ids"].shape
        predictions = None if length is None else self.most_predictions(length)
        # New ones throughout: the inputs' own have another layer as their origin.
        same = {name: keras.KerasTensor(given.shape, given.dtype) for name, given in inputs.items()}
        names = {"masked_lm_positions": "int32", "masked_lm_ids": "int32", "masked_lm_weights": "float32"}
        added = {name: keras.KerasTensor((batch, predictions), dtype) for name, dtype in names.items()}
        return {**same, "input_word_ids": keras.KerasTensor((batch, length), "int32"), **added}

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary": None,  # a file of its own: `save_assets`
            "mask_selection_rate": self.mask_selection_rate,
            "mask_token_rate": self.mask_token_rate,
            "random_token_rate": self.random_token_rate,
            "whole_word": self.whole_word,
            "max_predictions": self.max_predictions,
            "seed": self.seed,
        }

    def save_assets(self, folder):
        write_vocabulary(self.vocabulary, Path(folder) / VOCABULARY_FILE)

    def load_assets(self, folder):
        self._set_vocabulary(Path(folder) / VOCABULARY_FILE)
