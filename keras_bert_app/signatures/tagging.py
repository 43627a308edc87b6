"""Entities, or tags of words, of texts, in the graph."""

import tensorflow as tf

from keras_bert_app.metrics import entities
from keras_bert_app.preprocessing.packing import NAMES
from keras_bert_app.preprocessing.words import split_words


def tagging(model, preprocessor, labels, is_entities, stride):
    """What an exported token classifier does.

    Args:
        model: `keras.Model` from the encoder's inputs to logits `(batch, length, labels)`.
        preprocessor: `BertPreprocessor`.
        labels: the tags.
        is_entities: True if the tags are those of entities.
        stride: see `TokenClassification`.

    Returns:
        `{"serving_default": (function, signature)}`. The function takes `text`, string `(batch,)`, and
        returns `count`, int32 `(batch,)`, how many entities, or words, there are; and of these, each
        `(batch, most)` and padded with empty strings and 0: `text` and `label`, string, `score`, float32,
        and `start` and `end`, int32, characters of the text.
    """
    parsed = [entities.parse(label) if is_entities else ("S", label) for label in labels]
    kinds = sorted({kind for _, kind in parsed})  # "" is outside of entities
    kind_of = tf.constant([kinds.index(kind) for _, kind in parsed])
    goes_on_from = tf.constant([letter in "BI" for letter, _ in parsed])
    goes_on_with = tf.constant([letter in "IE" for letter, _ in parsed])
    names, outside = tf.constant(kinds), kinds.index("") if "" in kinds else -1

    def serving_default(text):
        text = tf.strings.unicode_transcode(tf.ensure_shape(text, [None]), "UTF-8", "UTF-8", errors="replace")
        words = split_words(text)
        scores = word_probabilities(model, preprocessor, words["words"], stride, labels)
        tag = tf.argmax(scores, axis=1, output_type=tf.int32)
        kind, row = tf.gather(kind_of, tag), tf.cast(words["words"].value_rowids(), tf.int32)
        inside = kind != outside
        goes_on = tf.gather(goes_on_with, tag) & tf.gather(goes_on_from, _before(tag, 0))
        goes_on &= (kind == _before(kind, -1)) & (row == _before(row, -1))
        starts_one = inside & ~goes_on
        entity = tf.boolean_mask(tf.cumsum(tf.cast(starts_one, tf.int32)) - 1, inside)

        def of(values):
            return tf.boolean_mask(values, inside)

        found = {
            "start": tf.math.segment_min(of(words["starts"].values), entity),
            "end": tf.math.segment_max(of(words["ends"].values), entity),
            "score": tf.math.segment_mean(of(tf.reduce_max(scores, axis=1)), entity),
            "label": tf.gather(names, tf.boolean_mask(kind, starts_one)),
        }
        rows = tf.boolean_mask(row, starts_one)
        length = found["end"] - found["start"]
        found["text"] = tf.strings.substr(tf.gather(text, rows), found["start"], length, "UTF8_CHAR")
        number = tf.size(text, tf.int64)

        def pad(values):
            rows_ = tf.cast(rows, tf.int64)
            return tf.RaggedTensor.from_value_rowids(values, rows_, number, validate=False).to_tensor()

        count = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, tf.cast(number, tf.int32))
        return {"count": count, **{name: pad(values) for name, values in found.items()}}

    return {"serving_default": (serving_default, [tf.TensorSpec([None], tf.string, name="text")])}


def word_probabilities(model, preprocessor, words, stride, labels):
    """The probabilities of the labels of words, float32 `(all words, labels)`.

    As `alignment.first_pieces` has it, a word has those of its first word piece in the window that shows the
    most around it; a word without word pieces is outside of entities, or has the first label.
    """
    packed = preprocessor.windows(words, stride)
    probabilities = tf.nn.softmax(model({name: packed[name] for name in NAMES}, training=False))
    place, mask = packed["words"], packed["input_mask"]  # (windows, length)
    number = tf.size(words.values)
    first = tf.cast(tf.gather(words.row_starts(), packed["rows"]), tf.int32)[:, None]
    key = tf.where(place >= 0, first + place, -1)  # the word among all; -1 is left out
    begin = tf.math.unsorted_segment_min(packed["starts"], key, number)
    before = tf.pad(place, [[0, 0], [1, 0]], constant_values=-1)[:, :-1]
    is_first = (place >= 0) & (place != before)
    is_first &= packed["starts"] == tf.gather(tf.pad(begin, [[0, 1]]), tf.where(key < 0, number, key))
    key = tf.where(is_first, key, -1)
    piece = tf.range(tf.shape(place)[1])[None, :]
    context = tf.minimum(piece, tf.reduce_sum(mask, axis=1, keepdims=True) - 1 - piece)
    most = tf.pad(tf.math.unsorted_segment_max(context, key, number), [[0, 1]])
    is_best = (key >= 0) & (context == tf.gather(most, tf.where(key < 0, number, key)))
    index = tf.reshape(tf.range(tf.size(place)), tf.shape(place))
    best = tf.math.unsorted_segment_min(index, tf.where(is_best, key, -1), number)  # the first of equal ones
    nothing = tf.one_hot([entities.outside(labels)], len(labels))  # the last row, of words without pieces
    table = tf.concat([tf.reshape(probabilities, [-1, len(labels)]), nothing], axis=0)
    return tf.gather(table, tf.minimum(best, tf.size(place)))


def _before(values, first):
    """The value before each, `first` before the first."""
    return tf.concat([[first], values[:-1]], axis=0)
