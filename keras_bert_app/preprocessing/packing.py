"""`BertPreprocessor`: text to the three inputs of BERT."""

import keras
import tensorflow as tf

from keras_bert_app.preprocessing import assembly, inputs, text_report
from keras_bert_app.preprocessing.tokenizer import PACKAGE, BertTokenizer
from keras_bert_app.preprocessing.truncation import STRATEGIES, longest_first

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
        sequence_length: int or int32 scalar tensor, in the place of the layer's own.
        return_offsets: True to get also where each word piece is.

    Returns:
        dict of int32 tensors `(batch, length)`: `input_word_ids`; `input_mask`, 1 for real
        tokens and 0 for padding; `input_type_ids`, 0 in the first text, 1 in all others, each
        with its `[SEP]`. With `return_offsets` also `starts` and `ends`, the characters of its text
        (or its word, if the text is split) from which to which a piece goes, 0 for special tokens
        and padding; and `words`, the index of its word in its text, -1 for special tokens and padding.

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
        is_layer = isinstance(tokenizer, keras.layers.Layer)
        self.tokenizer = tokenizer if is_layer else BertTokenizer(tokenizer)
        self.sequence_length = sequence_length
        self.padding = padding
        self.truncation = truncation
        self.pad_to_multiple_of = pad_to_multiple_of
        self.built = True  # there are no weights

    def replace(self, **options):
        """A preprocessor with the same tokenizer and options, but for `options`."""
        return BertPreprocessor(self.tokenizer, **{**self._options(), **options})

    def _options(self):
        names = ("sequence_length", "padding", "truncation", "pad_to_multiple_of")
        return {name: getattr(self, name) for name in names}

    def __call__(self, text, training=None, sequence_length=None, return_offsets=False):
        # `training` is what Keras gives to every layer.
        segments = inputs.segments_of(text)
        self._check_length(sequence_length, len(segments))
        if inputs.is_symbolic(segments):
            return super().__call__(text, sequence_length=sequence_length, return_offsets=return_offsets)
        # Straight to TensorFlow, whatever backend Keras has.
        segments = tuple(inputs.to_string_tensor(segment) for segment in segments)
        return self.call(segments, sequence_length, return_offsets)

    def _check_length(self, sequence_length, num_segments):
        """The length to pack to, after a check that the special tokens and a piece of each text fit."""
        if self.truncation == "only_second" and num_segments < 2:
            raise ValueError("truncation='only_second' needs a pair of texts: give a tuple of two")
        length = self.sequence_length if sequence_length is None else sequence_length
        least = 1 + 2 * num_segments
        plural = "s" if num_segments > 1 else ""
        message = f"too short for {num_segments} text{plural} in one input: give at least {least}"
        if isinstance(length, tf.Tensor):
            length = tf.cast(length, tf.int32)
            tf.debugging.assert_greater_equal(length, least, f"sequence_length is {message}")
        elif type(length) is not int or length < least:
            raise ValueError(f"sequence_length={length!r} is {message}")
        return length

    def call(self, text, sequence_length=None, return_offsets=False):
        segments = [
            assembly.tokenize(self.tokenizer, segment, return_offsets) for segment in inputs.segments_of(text)
        ]
        length = self._check_length(sequence_length, len(segments))
        lengths = [assembly.length_of(segment["ids"]) for segment in segments]
        spans = []
        for segment, (head, tail) in zip(
            segments, STRATEGIES[self.truncation](lengths, length - 1 - len(segments)), strict=True
        ):
            begin, end = assembly.limits_of(segment["ids"])
            spans.append([(begin, begin + head), (end - tail, end)])
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
        texts = [inputs.to_string_tensor(segment) for segment in inputs.segments_of(text)]
        segments = [assembly.tokenize(self.tokenizer, text, return_offsets=True) for text in texts]
        length = self._check_length(sequence_length, len(segments))
        *lengths, moving = [assembly.length_of(segment["ids"]) for segment in segments]
        room = tf.fill(tf.shape(moving), length - 1 - len(segments))  # (batch,)
        kept = [number for number, _ in longest_first(lengths, room[:1] // 2)] if lengths else []
        room = tf.add_n([room, *(-number for number in kept)])
        step = tf.minimum(stride, room)
        number = 1 + -(-tf.maximum(moving - room, 0) // step)  # windows of each text
        rows = tf.repeat(tf.range(tf.size(number)), number)
        spans = []
        for segment, size in zip(segments, kept, strict=False):
            begin = tf.gather(assembly.limits_of(segment["ids"])[0], rows)
            spans.append([(begin, begin + tf.gather(size, rows))])
        begin, end = (tf.gather(limit, rows) for limit in assembly.limits_of(segments[-1]["ids"]))
        begin += tf.ragged.range(number).values * tf.gather(step, rows)
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
        return text_report.report(self, text, batch_size)

    def compute_output_spec(self, text, sequence_length=None, return_offsets=False):
        shape = inputs.segments_of(text)[0].shape
        if len(shape) != 1:
            raise ValueError(f"text has shape {shape}: give keras.Input(shape=(), dtype='string')")
        (batch,) = shape
        length = sequence_length or self.sequence_length
        length = length if self.padding == "max_length" and isinstance(length, int) else None
        names = [*NAMES, *assembly.PLACES] if return_offsets else NAMES
        return {name: keras.KerasTensor((batch, length), "int32") for name in names}

    def get_config(self):
        return {
            **super().get_config(),
            "tokenizer": keras.saving.serialize_keras_object(self.tokenizer),
            **self._options(),
        }

    @classmethod
    def from_config(cls, config):
        tokenizer = keras.saving.deserialize_keras_object(config["tokenizer"])
        return cls(**{**config, "tokenizer": tokenizer})
