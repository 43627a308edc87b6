"""`BertTokenizer`: text to word pieces."""

import dataclasses
import functools
import re
from pathlib import Path

import keras
import tensorflow as tf
import tensorflow_text as tf_text

from keras_bert_app.preprocessing import inputs, normalization, offsets
from keras_bert_app.preprocessing.vocabulary_file import (
    PACKAGE,
    SUFFIX,
    VOCABULARY_FILE,
    check_vocabulary,
    read_vocabulary,
    write_vocabulary,
)

# Characters that always end a word, and all others but surrogates, which no UTF-8 has.
BETWEEN_WORDS = r"[\t\n\r !-/:-@\[-`{-~\x{3001}\x{3002}\x{3400}-\x{9FFF}\x{FF0C}]"
IN_WORDS = f"[^{BETWEEN_WORDS[1:-1]}\\x{{D800}}-\\x{{DFFF}}]"


@dataclasses.dataclass(frozen=True)
class Kernels:
    """What a tokenizer calls in the graph.

    Args:
        usual: pattern of UTF-8 without a word that can be too long, which nearly all texts are.
        normalizer: of `normalization.normalizer`.
        wordpiece: `tf_text.FastWordpieceTokenizer`.
        is_suffix: bool `(words,)`, which of its words go on with the one before.
        pieces: string `(words,)`, the vocabulary.
    """

    usual: str
    normalizer: tf_text.FastBertNormalizer
    wordpiece: tf_text.FastWordpieceTokenizer
    is_suffix: tf.Tensor
    pieces: tf.Tensor


@keras.saving.register_keras_serializable(PACKAGE)
class BertTokenizer(keras.layers.Layer):
    """Splits text into the word pieces of a BERT vocabulary, as the weights were trained with them.

    The text is cleaned of control characters, split at white space, punctuation and CJK
    characters and, with `lowercase`, stripped of case and accents; every word then becomes
    the longest word pieces that the vocabulary holds, or `[UNK]`. Bytes that are not UTF-8 count
    as U+FFFD, which is left out.

    The ids are those of Google's tokenizer and of Hugging Face's. Where the two differ they are
    Hugging Face's: private use characters are left out, a final sigma becomes a sigma like any
    other, and the limit of a word is 100 characters (in Google's first release it was 200).
    Characters that are newer than the Unicode tables of a library may be another category to it.

    Args:
        vocabulary: path of a `vocab.txt`, one token a line, the line's number being the
            token's id; or the list of tokens.
        lowercase: True for uncased vocabularies.
        strip_accents: whether accents are removed. Defaults to `lowercase`.
        max_input_chars_per_word: a longer word becomes `[UNK]`; at most 999.
        special_tokens: tokens of the vocabulary that stand for themselves when they are written
            in a text, such as `("[MASK]",)`; at most 28; of two that overlap the longer. By
            default a "[MASK]" in a text is a word in brackets.

    Call arguments:
        text: str, list, array or string tensor `(batch,)`; or a `tf.RaggedTensor`, of texts that
            are split into words, say: the result has one axis more.
        return_offsets: True to get also where each word piece is.

    Returns:
        int32 `tf.RaggedTensor` `(batch, pieces)`, without `[CLS]` and `[SEP]`. With
        `return_offsets`, a dict of four of them: `ids`; `starts` and `ends`, the characters of the
        text from which to which each piece goes, `text[start:end]`; and `words`, the index of its
        word in the text.

    Raises:
        FileNotFoundError: there is no file `vocabulary`.
        ValueError: the vocabulary cannot be that of a BERT, or an option is not possible.
        TypeError: an item of `text` is no string.

    Example:

    >>> tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "great", "film", "##s", "!"]
    >>> tokenizer = BertTokenizer(tokens)
    >>> tokenizer(["Great films!", "A film"]).to_list()
    [[5, 6, 7, 8], [1, 6]]
    >>> tokenizer("Great films!", return_offsets=True)["ends"].to_list()
    [[5, 10, 11, 12]]
    >>> tokenizer.detokenize([[5, 6, 7, 8]]).numpy()
    array([b'great films!'], dtype=object)

    Reference: [google-research/bert](https://github.com/google-research/bert), `tokenization.py`.
    """

    def __init__(
        self,
        vocabulary=None,
        lowercase=True,
        strip_accents=None,
        max_input_chars_per_word=100,
        special_tokens=(),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if type(max_input_chars_per_word) is not int or not 1 <= max_input_chars_per_word <= 999:
            raise ValueError(
                f"max_input_chars_per_word={max_input_chars_per_word!r}: give a whole number from 1 to 999"
            )
        if isinstance(special_tokens, str):
            raise ValueError(f"special_tokens={special_tokens!r}: give a tuple of tokens")
        if len(special_tokens) > len(normalization.CONTROLS):
            raise ValueError(f"special_tokens has {len(special_tokens)} tokens: give at most 28")
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.max_input_chars_per_word = max_input_chars_per_word
        self.special_tokens = tuple(special_tokens)
        self._vocabulary, self._ids = None, {}
        self.built = True  # there are no weights
        if vocabulary is not None:
            self._set_vocabulary(vocabulary)

    def _set_vocabulary(self, vocabulary):
        source = "the vocabulary"
        if isinstance(vocabulary, str | Path):
            source, vocabulary = vocabulary, read_vocabulary(vocabulary)
        check_vocabulary(vocabulary, source)
        self._vocabulary = tuple(vocabulary)
        self._ids = {token: index for index, token in enumerate(vocabulary)}
        missing = [token for token in self.special_tokens if token not in self._ids]
        if missing:
            raise ValueError(f"{source} lacks the special tokens {', '.join(missing)}")
        # The longest first: where two begin at the same character it is meant.
        self._written = sorted(self.special_tokens, key=len, reverse=True)
        self.__dict__.pop("_kernels", None)

    @functools.cached_property
    def _kernels(self):
        """What the graph is made of. To make it takes half a second, and not every tokenizer is called."""
        normalizer, growth = normalization.normalizer(
            self.lowercase,
            self.lowercase if self.strip_accents is None else self.strip_accents,
            len(self._written),
            keep_letters=not set(normalization.LETTERS).isdisjoint("".join(self.vocabulary)),
        )
        most = self.max_input_chars_per_word // growth
        # No word has a space in it, but the kernel would find one: what stands for it is in no cleaned text.
        words = [f"\x01{token}".replace(" ", "\x01") if " " in token else token for token in self.vocabulary]
        words += normalization.WORDS[: len(self._written)]
        with tf.init_scope():
            return Kernels(
                usual=f"(?:{IN_WORDS}{{0,{most}}}{BETWEEN_WORDS})*{IN_WORDS}{{0,{most}}}",
                normalizer=normalizer,
                wordpiece=tf_text.FastWordpieceTokenizer(
                    words, max_bytes_per_word=4 * self.max_input_chars_per_word, token_out_type=tf.int32
                ),
                is_suffix=tf.constant([t.startswith(SUFFIX) and t != SUFFIX for t in words]),
                pieces=tf.constant(self.vocabulary),
            )

    @property
    def vocabulary(self):
        """The tokens, a tuple; a token's place in it is its id.

        Raises:
            ValueError: there is none, as in a tokenizer made of a configuration alone.
        """
        if self._vocabulary is None:
            raise ValueError(
                "the tokenizer has no vocabulary, which a configuration does not hold: "
                "give the path of a vocab.txt, or load a .keras file"
            )
        return self._vocabulary

    @property
    def vocabulary_size(self):
        """Number of tokens."""
        return len(self.vocabulary)

    def token_to_id(self, token):
        """The id of `token`.

        Raises:
            KeyError: the vocabulary does not hold it.
        """
        if token not in self._ids:
            raise KeyError(f"{token!r} is not in the vocabulary")
        return self._ids[token]

    def id_to_token(self, index):
        """The token of which `index` is the id.

        Raises:
            IndexError: there is no such id.
        """
        if not 0 <= index < self.vocabulary_size:
            raise IndexError(f"there is no token {index}: ids go from 0 to {self.vocabulary_size - 1}")
        return self.vocabulary[index]

    def __call__(self, text, training=None, return_offsets=False):  # Keras gives `training` to every layer
        if inputs.is_symbolic([text]):
            return super().__call__(text, return_offsets=return_offsets)
        # Straight to TensorFlow, whatever backend Keras has.
        return self.call(inputs.to_string_tensor(text), return_offsets)

    def call(self, text, return_offsets=False):
        if isinstance(text, tf.RaggedTensor):
            found = self.call(text.flat_values, return_offsets)
            return tf.nest.map_structure(text.with_flat_values, found)
        num_tokens, kernels = self.vocabulary_size, self._kernels
        unusual = tf.where(~tf.strings.regex_full_match(text, kernels.usual))  # (rows, 1)
        all_usual = tf.size(unusual) == 0
        text = tf.cond(all_usual, lambda: text, lambda: self._make_valid(text, unusual))
        if self._written:
            text = self._mark_special_tokens(text)
        normalized = kernels.normalizer.normalize(text)
        ids, starts, ends = kernels.wordpiece.tokenize_with_offsets(normalized)
        starts, ends = (tf.cast(ragged.values, tf.int32) for ragged in (starts, ends))
        ids, starts, ends = tf.cond(
            all_usual,
            lambda: (ids, starts, ends),
            lambda: offsets.merge_long_words(
                normalized,
                ids,
                starts,
                ends,
                tf.gather(kernels.is_suffix, ids.values),
                self.max_input_chars_per_word,
                self.token_to_id("[UNK]"),
            ),
        )
        found = ids.values
        if self._written:
            written = tf.maximum(found - num_tokens, -1) + 1  # 0: a piece of the vocabulary
            special = tf.constant([0, *map(self.token_to_id, self._written)])
            ids = ids.with_values(tf.where(written > 0, tf.gather(special, written), found))
        if not return_offsets:
            return ids
        starts, ends = offsets.in_characters(text, normalized, kernels.normalizer, ids, starts, ends)
        if self._written:
            lengths = tf.gather([0, *map(len, self._written)], written)
            ends = tf.where(written > 0, starts + lengths, ends)
        return {
            "ids": ids,
            "starts": ids.with_values(starts),
            "ends": ids.with_values(ends),
            "words": ids.with_values(offsets.words_of(ids, tf.gather(kernels.is_suffix, found))),
        }

    def _make_valid(self, text, rows):
        valid = tf.strings.unicode_transcode(tf.gather_nd(text, rows), "UTF-8", "UTF-8", errors="replace")
        return tf.tensor_scatter_nd_update(text, rows, valid)

    def _mark_special_tokens(self, text):
        """Puts a control character in the place of each special token, without a change of length."""
        gap = "\x7f"
        text = tf.strings.regex_replace(text, f"[{''.join(normalization.CONTROLS)}]", gap)
        for control, token in zip(normalization.CONTROLS, self._written, strict=False):
            text = tf.strings.regex_replace(text, re.escape(token), control + gap * (len(token) - 1))
        return text

    def detokenize(self, ids):
        """The text that word pieces make up: lowercase and without accents, if they are.

        `[PAD]`, `[CLS]` and `[SEP]` are left out. Between words, Chinese characters too, stands a
        space, but none before `.,!?` and none around an apostrophe that is between words. The
        text itself, unchanged, is `text[start:end]`, see `return_offsets`.

        Args:
            ids: list of lists, tensor or `tf.RaggedTensor` `(batch, pieces)`.

        Returns:
            string `(batch,)`.

        Raises:
            ValueError: `ids` are no lists of numbers.
        """
        if not isinstance(ids, tf.Tensor | tf.RaggedTensor):
            try:
                ids = tf.ragged.constant(ids, tf.int32, ragged_rank=1)
            except (TypeError, ValueError) as error:
                raise ValueError(f"ids is {ids!r:.80}: give a list of lists of ids") from error
        if isinstance(ids, tf.Tensor):
            ids = tf.RaggedTensor.from_tensor(ids)
        frame = [self.token_to_id(token) for token in ("[PAD]", "[CLS]", "[SEP]")]
        ids = tf.ragged.boolean_mask(ids, tf.reduce_all(ids[..., None] != frame, axis=-1))
        text = tf.strings.reduce_join(tf.gather(self._kernels.pieces, ids), axis=-1, separator=" ")
        text = tf.strings.regex_replace(text, f" {SUFFIX}", "")
        text = tf.strings.regex_replace(text, r" ([.,!?])", r"\1")
        return tf.strings.regex_replace(text, r" ' ", "'")

    def compute_output_spec(self, text, return_offsets=False):
        inputs.check_symbolic(text)

        def pieces():
            return keras.KerasTensor((*text.shape, None), "int32", ragged=True, ragged_rank=1)

        return {name: pieces() for name in ("ids", "starts", "ends", "words")} if return_offsets else pieces()

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary": None,  # a file of its own: `save_assets`
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "max_input_chars_per_word": self.max_input_chars_per_word,
            "special_tokens": list(self.special_tokens),
        }

    def save_assets(self, folder):
        write_vocabulary(self.vocabulary, Path(folder) / VOCABULARY_FILE)

    def load_assets(self, folder):
        self._set_vocabulary(Path(folder) / VOCABULARY_FILE)
