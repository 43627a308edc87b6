"""Rows of word pieces put together from spans of tokenized texts."""

import tensorflow as tf

SPECIAL = ("[PAD]", "[CLS]", "[SEP]")
# What special tokens and padding have where pieces have their place in the text.
PLACES = {"starts": 0, "ends": 0, "words": -1}


def tokenize(tokenizer, text, return_offsets):
    """The word pieces of one text of each row, with the words of a split text joined.

    Args:
        tokenizer: `BertTokenizer`.
        text: string `(batch,)`, or a `tf.RaggedTensor` `(batch, words)`.
        return_offsets: see `BertTokenizer`.

    Returns:
        dict of int32 `tf.RaggedTensor` `(batch, pieces)`: `ids` and, with offsets, `starts`, `ends`
        and `words`.
    """
    found = tokenizer(text, return_offsets=return_offsets)
    found = found if return_offsets else {"ids": found}
    if not isinstance(text, tf.RaggedTensor):
        return found
    pieces = found["ids"]  # (batch, words, pieces)
    found = {name: ragged.merge_dims(1, 2) for name, ragged in found.items()}
    if return_offsets:
        word = pieces.values.value_rowids()
        first = tf.gather(pieces.row_starts(), found["ids"].value_rowids())
        found["words"] = found["ids"].with_values(tf.cast(word - first, tf.int32))
    return found


def length_of(pieces):
    """How many pieces each row has, int32 `(batch,)`."""
    return tf.cast(pieces.row_lengths(), tf.int32)


def start_of(pieces):
    """Where the pieces of each row begin among all, int32 `(batch,)`."""
    return tf.cast(pieces.row_starts(), tf.int32)


def assemble(tokenizer, segments, spans, width):
    """`[CLS]`, then the spans of each segment with a `[SEP]` after them.

    Args:
        tokenizer: `BertTokenizer`.
        segments: list of dicts, from `tokenize`.
        spans: for each segment a list of `(begin, end)`, int32 `(rows,)`: from which to which of
            all its pieces go into each row.
        width: function of the longest row's length, int32 scalar, that gives the length to pad to.

    Returns:
        dict of int32 `(rows, length)`: `input_word_ids`, `input_mask`, `input_type_ids` and,
        with offsets, `starts`, `ends` and `words`.
    """
    # All pieces in one vector, the special tokens first. A row is parts of it, one after the other.
    parts, shift = [(SPECIAL.index("[CLS]"), 1)], len(SPECIAL)  # where each begins, and its size
    for segment, spans_of_segment in zip(segments, spans, strict=True):
        parts += [(begin + shift, end - begin) for begin, end in spans_of_segment]
        parts.append((SPECIAL.index("[SEP]"), 1))
        shift += tf.size(segment["ids"].values)
    lengths = sum(size for _, size in parts)  # (rows,)
    shortest = 1 + len(segments)  # what an empty batch is padded to
    length = width(tf.reduce_max(tf.concat([lengths, [shortest]], axis=0)))
    positions = tf.range(length)[None, :]  # (1, length)
    mask = positions < lengths[:, None]  # (rows, length)
    index = before = 0
    for begin, size in parts:
        inside = positions - before
        index = tf.where(inside >= 0, tf.reshape(begin, [-1, 1]) + inside, index)
        before += tf.reshape(size, [-1, 1])
    index = tf.where(mask, index, SPECIAL.index("[PAD]"))
    first = 2 + sum(end - begin for begin, end in spans[0])  # tokens of type 0

    def gather(name, special):
        values = tf.concat([special, *(segment[name].values for segment in segments)], axis=0)
        return tf.gather(values, index)

    return {
        "input_word_ids": gather("ids", [tokenizer.token_to_id(token) for token in SPECIAL]),
        "input_mask": tf.cast(mask, tf.int32),
        "input_type_ids": tf.cast(mask & (positions >= first[:, None]), tf.int32),
        **{
            name: gather(name, [value] * len(SPECIAL))
            for name, value in PLACES.items()
            if name in segments[0]
        },
    }
