"""Answers to questions, in the graph."""

import tensorflow as tf

from keras_bert_app.preprocessing.packing import NAMES

IMPOSSIBLE = -1e9


def answering(model, preprocessor, stride, longest, threshold):
    """What an exported model for question answering does.

    Args:
        model: `keras.Model` from the encoder's inputs to `start_logits` and `end_logits` `(batch, length)`.
        preprocessor: `BertPreprocessor`.
        stride: see `QuestionAnswering`.
        longest: most word pieces of an answer.
        threshold: None, or how much better no answer must be than the best one to be given.

    Returns:
        `{"serving_default": (function, signature)}`. The function takes `question` and `context`, string
        `(batch,)`, and returns, each `(batch,)`: `answer`, string; `score`, float32; `start` and `end`,
        int32, characters of the context; and with a threshold `no_answer_odds`, float32, see
        `QuestionAnswering.answers`.
    """

    def serving_default(question, context):
        question, context = (
            tf.strings.unicode_transcode(tf.ensure_shape(text, [None]), "UTF-8", "UTF-8", errors="replace")
            for text in (question, context)
        )
        packed = preprocessor.windows((question, context), stride)
        logits = model({name: packed[name] for name in NAMES}, training=False)
        mask = packed["input_mask"] > 0
        start, end = (tf.where(mask, logits[f"{name}_logits"], IMPOSSIBLE) for name in ("start", "end"))
        is_context = (packed["input_type_ids"] == 1) & (packed["words"] >= 0)
        number, rows = tf.size(context), packed["rows"]
        may_start = most_context(is_context, rows, number, stride)
        best, first, last = _best_spans(start, end, may_start, is_context, longest)
        total = tf.reduce_logsumexp(start, axis=1) + tf.reduce_logsumexp(end, axis=1)
        most = tf.math.unsorted_segment_max(best, rows, number)
        window = tf.range(tf.size(rows))
        is_best = best == tf.gather(most, rows)
        window = tf.math.unsorted_segment_min(window, tf.where(is_best, rows, -1), number)  # (batch,)
        first, last = (tf.gather(place, window) for place in (first, last))
        found = {
            "start": tf.gather_nd(packed["starts"], tf.stack([window, first], axis=1)),
            "end": tf.gather_nd(packed["ends"], tf.stack([window, last], axis=1)),
            "score": tf.exp(most - tf.gather(total, window)),
        }
        given = most > IMPOSSIBLE / 2
        if threshold is not None:
            none = tf.math.unsorted_segment_min(start[:, 0] + end[:, 0], rows, number)
            found["no_answer_odds"] = none - tf.where(given, most, 0.0)
            given &= found["no_answer_odds"] <= threshold
        for name in ("start", "end", "score"):
            found[name] = tf.where(given, found[name], tf.zeros_like(found[name]))
        length = found["end"] - found["start"]
        found["answer"] = tf.strings.substr(context, found["start"], length, "UTF8_CHAR")
        return found

    texts = [tf.TensorSpec([None], tf.string, name=name) for name in ("question", "context")]
    return {"serving_default": (serving_default, texts)}


def most_context(is_context, rows, number, stride):
    """See `spans.most_context`: bool `(windows, length)`."""
    sizes = tf.reduce_sum(tf.cast(is_context, tf.int32), axis=1)  # (windows,)
    windows = tf.range(tf.size(rows))
    earliest = tf.math.unsorted_segment_min(windows, rows, number)  # (batch,)
    step = tf.minimum(stride, tf.gather(sizes, earliest))
    which = windows - tf.gather(earliest, rows)  # the window's number among those of its text
    place = tf.cumsum(tf.cast(is_context, tf.int32), axis=1) - 1  # among the pieces of the window
    size = sizes[:, None]
    score = 100 * tf.minimum(place, size - 1 - place) + size
    # A number for each piece of each context: as many for a text as its windows could have pieces.
    room = tf.reduce_max(tf.concat([sizes, [1]], axis=0))
    begin = tf.gather(
        tf.cumsum(tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, number), exclusive=True), rows
    )
    key = (begin * room + which * tf.gather(step, rows))[:, None] + place
    key = tf.where(is_context, key, -1)
    keys = tf.size(rows) * room
    best = tf.math.unsorted_segment_max(score, key, keys)
    is_best = is_context & (score == tf.gather(best, tf.maximum(key, 0)))
    owner = tf.math.unsorted_segment_min(
        tf.zeros_like(key) + windows[:, None], tf.where(is_best, key, -1), keys
    )
    return is_best & (tf.gather(owner, tf.maximum(key, 0)) == windows[:, None])


def _best_spans(start, end, may_start, is_context, longest):
    """The best span of each window: its sum of logits, first and last word piece, each `(windows,)`."""
    start = tf.where(may_start, start, IMPOSSIBLE)
    end = tf.where(is_context, end, IMPOSSIBLE)
    # What a span of each length from each piece on has, (windows, length, longest).
    ends = tf.signal.frame(
        tf.pad(end, [[0, 0], [0, longest - 1]], constant_values=IMPOSSIBLE), longest, 1, axis=1
    )
    sums = start[:, :, None] + ends
    flat = tf.reshape(sums, [tf.shape(sums)[0], -1])
    index = tf.argmax(flat, axis=1, output_type=tf.int32)
    first = index // longest
    return tf.reduce_max(flat, axis=1), first, first + index % longest
