"""`BertPreprocessor`: text to the three inputs of BERT."""

import keras
import tensorflow as tf

from keras_bert_app.preprocessing import inputs
from keras_bert_app.preprocessing.tokenizer import PACKAGE, BertTokenizer

PADDINGS = ("longest", "max_length")


@keras.saving.register_keras_serializable(PACKAGE)
class BertPreprocessor(keras.layers.Layer):
    """Tokenizes text or pairs of texts and packs them as BERT was trained with them.

    One text becomes `[CLS] a [SEP]`, a pair `[CLS] a [SEP] b [SEP]`. What is longer than
    `sequence_length` is cut at its end; of a pair, the longer text is cut first, and of equal
    ones the second.

    Args:
        tokenizer: `BertTokenizer`, or what `BertTokenizer(vocabulary)` takes.
        sequence_length: word pieces of the longest result, special tokens included; at least 3,
            for pairs at least 5.
        padding: `"longest"` pads to the longest text of each batch, `"max_length"` always to
            `sequence_length`.

    Call arguments:
        text: str, list, array or string tensor `(batch,)`; for pairs a tuple of two.

    Returns:
        dict of int32 tensors `(batch, length)`: `input_word_ids`; `input_mask`, 1 for real
        tokens and 0 for padding; `input_type_ids`, 1 in the second text with its `[SEP]`.

    Raises:
        ValueError: an option or the shape of `text` is not possible.
        TypeError: an item of `text` is no string.

    Example:

    >>> tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "great", "film", "##s", "!"]
    >>> preprocessor = BertPreprocessor(tokens, sequence_length=6)
    >>> preprocessor(["Great films!", "film"])["input_word_ids"].numpy()
    array([[2, 5, 6, 7, 8, 3],
           [2, 6, 3, 0, 0, 0]], dtype=int32)
    >>> preprocessor(("great film", "films"))["input_type_ids"].numpy()
    array([[0, 0, 0, 0, 1, 1]], dtype=int32)

    Reference: [google-research/bert](https://github.com/google-research/bert), `run_classifier.py`.
    """

    def __init__(self, tokenizer, sequence_length=512, padding="longest", **kwargs):
        super().__init__(**kwargs)
        if type(sequence_length) is not int or sequence_length < 3:
            raise ValueError(
                f"sequence_length={sequence_length!r}: give a whole number of at least 3, "
                "for [CLS], one word piece and [SEP]"
            )
        if padding not in PADDINGS:
            raise ValueError(f"padding={padding!r}: one of {', '.join(PADDINGS)}")
        is_layer = isinstance(tokenizer, keras.layers.Layer)
        self.tokenizer = tokenizer if is_layer else BertTokenizer(tokenizer)
        self.sequence_length = sequence_length
        self.padding = padding
        self.built = True  # there are no weights

    def __call__(self, text, training=None):  # Keras gives `training` to every layer
        segments = inputs.segments_of(text)
        self._check_number(segments)
        if inputs.is_symbolic(segments):
            return super().__call__(text)
        # Straight to TensorFlow, whatever backend Keras has.
        return self.call(tuple(inputs.to_string_tensor(segment) for segment in segments))

    def _check_number(self, segments):
        if len(segments) not in (1, 2):
            raise ValueError(f"{len(segments)} texts in a tuple: give one text or a pair. A batch is a list")
        if self.sequence_length < 1 + 2 * len(segments):
            raise ValueError(
                f"sequence_length={self.sequence_length} is too short for a pair: give at least 5"
            )

    def call(self, text):
        segments = [self.tokenizer(segment) for segment in inputs.segments_of(text)]
        budget = self.sequence_length - 1 - len(segments)
        segments = _truncate(segments, budget)
        rows = segments[0].nrows()

        def column(token):
            index = self.tokenizer.token_to_id(token)
            return tf.RaggedTensor.from_tensor(tf.fill([rows, 1], index))  # (batch, 1)

        parts = [column("[CLS]")]
        for segment in segments:
            parts += [segment, column("[SEP]")]
        word_ids = tf.concat(parts, axis=1)  # (batch, pieces)
        lengths = _lengths(word_ids)
        first = _lengths(segments[0]) + 2  # tokens of type 0 in each row
        if self.padding == "max_length":
            shape = (None, self.sequence_length)
        else:  # an empty batch is as long as an empty text
            shape = tf.stack([-1, tf.reduce_max(tf.concat([lengths, [1 + len(segments)]], axis=0))])
        padding_id = self.tokenizer.token_to_id("[PAD]")
        word_ids = word_ids.to_tensor(padding_id, shape=shape)  # (batch, length)
        positions = tf.range(tf.shape(word_ids)[1])[None, :]  # (1, length)
        mask = positions < lengths[:, None]
        return {
            "input_word_ids": word_ids,
            "input_mask": tf.cast(mask, tf.int32),
            "input_type_ids": tf.cast(mask & (positions >= first[:, None]), tf.int32),
        }

    def compute_output_spec(self, text):
        shape = inputs.segments_of(text)[0].shape
        if len(shape) != 1:
            raise ValueError(f"text has shape {shape}: give keras.Input(shape=(), dtype='string')")
        (batch,) = shape
        length = self.sequence_length if self.padding == "max_length" else None
        names = ("input_word_ids", "input_mask", "input_type_ids")
        return {name: keras.KerasTensor((batch, length), "int32") for name in names}

    def get_config(self):
        return {
            **super().get_config(),
            "tokenizer": keras.saving.serialize_keras_object(self.tokenizer),
            "sequence_length": self.sequence_length,
            "padding": self.padding,
        }

    @classmethod
    def from_config(cls, config):
        tokenizer = keras.saving.deserialize_keras_object(config["tokenizer"])
        return cls(**{**config, "tokenizer": tokenizer})


def _truncate(segments, budget):
    """Cuts the longer of two segments first, as `_truncate_seq_pair` of google-research/bert."""
    if len(segments) == 1:
        return [segments[0][:, :budget]]
    first, second = (_lengths(segment) for segment in segments)
    keep_first = tf.minimum(first, tf.maximum(budget - second, budget - budget // 2))
    keep_second = tf.minimum(second, budget - keep_first)
    return [_keep(segments[0], keep_first), _keep(segments[1], keep_second)]


def _lengths(segment):
    return tf.cast(segment.row_lengths(), tf.int32)  # (batch,)


def _keep(segment, lengths):
    """The first `lengths[i]` pieces of each row."""
    positions = tf.ragged.range(_lengths(segment))  # (batch, pieces)
    positions = positions.with_row_splits_dtype(segment.row_splits.dtype)
    return tf.ragged.boolean_mask(segment, positions < tf.expand_dims(lengths, 1))
