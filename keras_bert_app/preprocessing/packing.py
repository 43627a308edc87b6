"""`BertPreprocessor`: text to the three inputs of BERT."""

import numbers
from pathlib import Path

import keras
import tensorflow as tf

from keras_bert_app.preprocessing import assembly, inputs, text_report
from keras_bert_app.preprocessing.graphs import Graphs
from keras_bert_app.preprocessing.tokenizer import BertTokenizer
from keras_bert_app.preprocessing.truncation import STRATEGIES, longest_first
from keras_bert_app.preprocessing.vocabulary_file import PACKAGE

PADDINGS = ("longest", "max_length")
NAMES = ("input_word_ids", "input_mask", "input_type_ids")


@keras.saving.register_keras_serializable(PACKAGE)
class BertPreprocessor(keras.layers.Layer):
    """Tokenizes texts, alone, in pairs or more, and packs them as BERT was trained with them.

    One text becomes `[CLS] a [SEP]`, a pair `[CLS] a [SEP] b [SEP]`, and so on. What is longer than
    `sequence_length` is cut, or spread over windows, see `windows`.

    Args:
        tokenizer: `BertTokenizer`, or what `BertTokenizer(vocabulary)` takes.
        sequence_length: word pieces of the longest result, special tokens included; at least 3,
            for pairs at least 5, two more for each further text.
        padding: `"longest"` pads to the longest text of each batch, `"max_length"` always to
            `sequence_length`.
        truncation: what is cut of texts that are too long. `"longest_first"` takes from the end
            of the longest, of equal ones from the last; `"waterfall"` lets each have what the ones
            before it leave; `"only_first"` and `"only_second"` cut that text, and another only if
            it does not fit alone; `"head_tail"` keeps the first quarter and the last three
            quarters of what fits.
        pad_to_multiple_of: with `"longest"`, the length is rounded up to a multiple of it, but not
            above `sequence_length`.

    Call arguments:
        text: str, list, array or string tensor `(batch,)`; for pairs and more a tuple of them. A
            `tf.RaggedTensor` `(batch, words)` is texts that are split into words.
        sequence_length: int or integer scalar tensor, in the place of the layer's own. As a tensor it
            can be an input of an exported graph.
        return_offsets: True to get also where each word piece is.

    Returns:
        dict of int32 tensors `(batch, length)`: `input_word_ids`; `input_mask`, 1 for real
        tokens and 0 for padding; `input_type_ids`, 0 in the first text, 1 in all others, each
        with its `[SEP]`. With `return_offsets` also `starts` and `ends`, the characters of its text
        (or its word, if the text is split) from which to which a piece goes, 0 for special tokens
        and padding; and `words`, the index of its word in its text, -1 for special tokens and padding.

    Raises:
        ValueError: an option or the shape of `text` is not possible.
        TypeError: an item of `text` is no string, or `sequence_length` no whole number.

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

    def __init__(
        self,
        tokenizer,
        sequence_length=512,
        padding="longest",
        truncation="longest_first",
        pad_to_multiple_of=1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if type(sequence_length) is not int or sequence_length < 3:
            raise ValueError(
                f"sequence_length={sequence_length!r}: give a whole number of at least 3, "
                "for [CLS], one word piece and [SEP]"
            )
        if padding not in PADDINGS:
            raise ValueError(f"padding={padding!r}: one of {', '.join(PADDINGS)}")
        if truncation not in STRATEGIES:
            raise ValueError(f"truncation={truncation!r}: one of {', '.join(STRATEGIES)}")
        if type(pad_to_multiple_of) is not int or pad_to_multiple_of < 1:
            raise ValueError(f"pad_to_multiple_of={pad_to_multiple_of!r}: give a whole number of at least 1")
        if not isinstance(tokenizer, BertTokenizer | str | Path | list | tuple):
            raise TypeError(f"tokenizer={tokenizer!r}: give a BertTokenizer, or the path of a vocab.txt")
        is_layer = isinstance(tokenizer, BertTokenizer)
        self.tokenizer = tokenizer if is_layer else BertTokenizer(tokenizer)
        self.sequence_length = sequence_length
        self.padding = padding
        self.truncation = truncation
        self.pad_to_multiple_of = pad_to_multiple_of
        self._graphs = Graphs()
        self.built = True  # there are no weights

    def replace(self, **options):
        """A preprocessor with the same tokenizer and options, but for `options`."""
        return BertPreprocessor(**{"tokenizer": self.tokenizer, **self.options, **options})

    @property
    def options(self):
        """dict of the arguments that it was made with, but for the tokenizer."""
        names = ("sequence_length", "padding", "truncation", "pad_to_multiple_of")
        return {name: getattr(self, name) for name in names}

    def __call__(self, text, training=None, sequence_length=None, return_offsets=False):
        # `training` is what Keras gives to every layer.
        if inputs.is_symbolic(inputs.segments_of(text)):
            return super().__call__(text, sequence_length=sequence_length, return_offsets=return_offsets)
        # Straight to TensorFlow, whatever backend Keras has.
        return self._in_graph(self.call, text, sequence_length, return_offsets)

    def _in_graph(self, function, text, *options):
        state = self.tokenizer, *self.options.values()
        return self._graphs.run(function, state, inputs.to_segments(text), *options)

    def _length(self, sequence_length, num_segments):
        """The length to pack to, if the special tokens and a piece of each text fit."""
        length = self.sequence_length if sequence_length is None else sequence_length
        least = 1 + 2 * num_segments
        plural = "s" if num_segments > 1 else ""
        message = f"too short for {num_segments} text{plural} in one input: give at least {least}"
        if isinstance(length, tf.Tensor) and length.dtype.is_integer and length.shape.rank in (0, None):
            length = tf.ensure_shape(tf.cast(length, tf.int32), [])
            check = tf.debugging.assert_greater_equal(length, least, f"sequence_length is {message}")
            with tf.control_dependencies([check]):
                return tf.identity(length)
        if not isinstance(length, numbers.Integral) or isinstance(length, bool):
            raise TypeError(f"sequence_length={length!r}: give a whole number, or a scalar tensor of one")
        if length < least:
            raise ValueError(f"sequence_length={length} is {message}")
        return int(length)

    def _check_truncation(self, num_segments):
        if self.truncation == "only_second" and num_segments < 2:
            raise ValueError("truncation='only_second' needs a pair of texts: give a tuple of two")

    def call(self, text, sequence_length=None, return_offsets=False):
        segments = inputs.segments_of(text)
        self._check_truncation(len(segments))
        length = self._length(sequence_length, len(segments))
        segments = [assembly.tokenize(self.tokenizer, segment, return_offsets) for segment in segments]
        lengths = [assembly.length_of(segment["ids"]) for segment in segments]
        kept = STRATEGIES[self.truncation](lengths, length - 1 - len(segments))
        starts = [assembly.start_of(segment["ids"]) for segment in segments]
        spans = [
            [(start + begin, start + end) for begin, end in spans_of_segment]
            for start, spans_of_segment in zip(starts, kept, strict=True)
        ]
        return assembly.assemble(self.tokenizer, segments, spans, self.width(length))

    def width(self, length):
        """What a batch is padded to: a function of the length of its longest row."""
        if self.padding == "max_length":
            return lambda longest: length
        multiple = self.pad_to_multiple_of
        return lambda longest: tf.minimum(-(-longest // multiple) * multiple, length)

    def windows(self, text, stride=128, sequence_length=None):
        """Texts of any length as windows that overlap, for long documents and question answering.

        Of a pair (or more) the last text moves through the windows; the others, cut to half of the
        room, stand in each: `(question, context)`.

        Args:
            text: see the call arguments.
            stride: word pieces from the start of a window to that of the next; at most as many
                as a window has room for, so that no piece is skipped.
            sequence_length: see the call arguments.

        Returns:
            dict of int32 tensors `(windows, length)` as with `return_offsets`, and `rows`
            `(windows,)`, the index of the text that each window is of. A text has at least one.
        """
        if type(stride) is not int or stride < 1:
            raise ValueError(f"stride={stride!r}: give a whole number of at least 1")
        return self._in_graph(self._windows, text, stride, sequence_length)

    def _windows(self, texts, stride, sequence_length):
        length = self._length(sequence_length, len(texts))
        segments = [assembly.tokenize(self.tokenizer, text, return_offsets=True) for text in texts]
        *lengths, moving = [assembly.length_of(segment["ids"]) for segment in segments]
        *starts, begin = [assembly.start_of(segment["ids"]) for segment in segments]
        room = length - 1 - len(segments)
        kept = [number for [(_, number)] in longest_first(lengths, room // 2)] if lengths else []
        room = tf.fill(tf.shape(moving), room) - sum(kept)  # (batch,)
        step = tf.minimum(stride, room)
        number = 1 + -(-tf.maximum(moving - room, 0) // step)  # windows of each text
        rows = tf.repeat(tf.range(tf.size(number)), number)
        spans = [
            [(tf.gather(start, rows), tf.gather(start + size, rows))]
            for start, size in zip(starts, kept, strict=True)
        ]
        end = tf.gather(begin + moving, rows)
        begin = tf.gather(begin, rows) + tf.ragged.range(number).values * tf.gather(step, rows)
        spans.append([(begin, tf.minimum(begin + tf.gather(room, rows), end))])
        packed = assembly.assemble(self.tokenizer, segments, spans, self.width(length))
        return {**packed, "rows": rows}

    def report(self, text, batch_size=32):
        """What packing does to some texts: look at it before a training.

        Args:
            text: see the call arguments.
            batch_size: texts that are padded together, in the order given.

        Returns:
            dict: `texts`, their number; `longest`, the word pieces of the longest with its special
            tokens; `truncated`, how many texts are cut; `pieces`, all word pieces, and `cut_pieces`,
            how many of them are cut off; `padding`, the share of padding in all batches; `unknown`,
            how many pieces are `[UNK]`; and `unknown_words`, the 20 most frequent words that are,
            as a list of `(word, number)`.
        """
        segments = inputs.to_segments(text)
        self._check_truncation(len(segments))
        self._length(None, len(segments))
        return text_report.report(self, segments, batch_size)

    def compute_output_spec(self, text, sequence_length=None, return_offsets=False):
        segments = inputs.segments_of(text)
        for segment in segments:
            inputs.check_symbolic(segment)
        self._check_truncation(len(segments))
        length = self._length(sequence_length, len(segments))
        length = length if self.padding == "max_length" and isinstance(length, int) else None
        names = [*NAMES, *assembly.PLACES] if return_offsets else NAMES
        return {name: keras.KerasTensor((segments[0].shape[0], length), "int32") for name in names}

    def get_config(self):
        return {
            **super().get_config(),
            "tokenizer": keras.saving.serialize_keras_object(self.tokenizer),
            **self.options,
        }

    @classmethod
    def from_config(cls, config):
        tokenizer = keras.saving.deserialize_keras_object(config["tokenizer"])
        return cls(**{**config, "tokenizer": tokenizer})
