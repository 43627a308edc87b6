"""`BertTokenizer`: text to word pieces."""

from collections import Counter
from pathlib import Path

import keras
import tensorflow as tf
import tensorflow_text as tf_text

from keras_bert_app.preprocessing import inputs

PACKAGE = "keras_bert_app"
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY_FILE = "vocab.txt"


@keras.saving.register_keras_serializable(PACKAGE)
class BertTokenizer(keras.layers.Layer):
    """Splits text into the word pieces of a BERT vocabulary.

    The text is cleaned of control characters, split at white space, punctuation and CJK
    characters and, with `lowercase`, stripped of case and accents; every word then becomes
    the longest word pieces that the vocabulary holds. Bytes that are not UTF-8 are left out.

    Args:
        vocabulary: path of a `vocab.txt`, one token a line, the line's number being the
            token's id; or the list of tokens.
        lowercase: True for uncased vocabularies.

    Call arguments:
        text: str, list, array or string tensor `(batch,)`.

    Returns:
        int32 `tf.RaggedTensor` `(batch, pieces)`, without special tokens.

    Raises:
        FileNotFoundError: there is no file `vocabulary`.
        ValueError: the vocabulary is not UTF-8, or lacks a special token.
        TypeError: an item of `text` is no string.

    Example:

    >>> tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "great", "film", "##s", "!"]
    >>> BertTokenizer(tokens)(["Great films!", "A film"]).to_list()
    [[5, 6, 7, 8], [1, 6]]

    Reference: [google-research/bert](https://github.com/google-research/bert), `tokenization.py`.
    """

    def __init__(self, vocabulary=None, lowercase=True, **kwargs):
        super().__init__(**kwargs)
        self.lowercase = lowercase
        self.vocabulary = None
        self.built = True  # there are no weights
        if vocabulary is not None:
            self._set_vocabulary(vocabulary)

    def _set_vocabulary(self, vocabulary):
        source = "the vocabulary"
        if isinstance(vocabulary, str | Path):
            source, vocabulary = vocabulary, read_vocabulary(vocabulary)
        missing = [token for token in SPECIAL_TOKENS if token not in set(vocabulary)]
        if missing:
            raise ValueError(f"{source} lacks {', '.join(missing)}: it is not the vocabulary of a BERT")
        if len(set(vocabulary)) < len(vocabulary):
            twice, _ = Counter(vocabulary).most_common(1)[0]
            raise ValueError(f"{source} holds {twice!r} twice: each line must be another token")
        self.vocabulary = tuple(vocabulary)
        self._ids = {token: index for index, token in enumerate(vocabulary)}
        with tf.init_scope():
            self._tokenizer = tf_text.FastBertTokenizer(
                list(vocabulary), token_out_type=tf.int32, lower_case_nfd_strip_accents=self.lowercase
            )

    @property
    def vocabulary_size(self):
        """Number of tokens."""
        return len(self.vocabulary)

    def token_to_id(self, token):
        """The id of `token`.

        Raises:
            KeyError: the vocabulary does not hold it.
        """
        return self._ids[token]

    def id_to_token(self, index):
        """The token of which `index` is the id."""
        return self.vocabulary[index]

    def __call__(self, text, training=None):  # Keras gives `training` to every layer
        if inputs.is_symbolic([text]):
            return super().__call__(text)
        # Straight to TensorFlow, whatever backend Keras has.
        return self.call(inputs.to_string_tensor(text))

    def call(self, text):
        if self.vocabulary is None:
            raise ValueError("the tokenizer has no vocabulary: give the path of a vocab.txt")
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="ignore")
        return self._tokenizer.tokenize(text)

    def compute_output_spec(self, text):
        return keras.KerasTensor((*text.shape, None), "int32", ragged=True, ragged_rank=1)

    def get_config(self):
        # The vocabulary is a file of its own: `save_assets`.
        return {**super().get_config(), "vocabulary": None, "lowercase": self.lowercase}

    def save_assets(self, folder):
        path = Path(folder) / VOCABULARY_FILE
        path.write_text("".join(f"{token}\n" for token in self.vocabulary), encoding="utf-8", newline="")

    def load_assets(self, folder):
        self._set_vocabulary(Path(folder) / VOCABULARY_FILE)


def read_vocabulary(path):
    """The tokens in the file `path`, one a line.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not UTF-8.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no vocabulary {path}: give the path of a vocab.txt")
    try:
        # Only "\n" ends a line: Google's Chinese vocabulary has U+2028 as a token.
        return path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}): save it as UTF-8") from error
