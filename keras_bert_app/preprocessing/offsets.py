"""Where things are in a text, in characters, computed from the bytes that TensorFlow counts."""

import tensorflow as tf


def count(left_out):
    """How many items there are up to each, itself included, without those that are left out.

    It is `tf.cumsum` in a fraction of its time: between two items that are left out, which are
    few, the numbers are a range.

    Args:
        left_out: bool `(items,)`.

    Returns:
        int32 `(items + 1,)`: at the end one more, for the end itself.
    """
    where = tf.cast(tf.where(left_out)[:, 0], tf.int32)
    begins = tf.concat([[0], where], axis=0)
    ends = tf.concat([where, [tf.size(left_out) + 1]], axis=0)
    shift = 1 - tf.range(tf.size(begins))
    return tf.ragged.range(begins + shift, ends + shift).values


def count_characters(texts):
    """How many characters begin up to each byte of the texts, one text after the other.

    Args:
        texts: string `(batch,)`, UTF-8.

    Returns:
        `(counts, starts)`: int32 `(bytes + 1,)`, see `count`, and int32 `(batch,)`, the first byte
        of each text.
    """
    data = tf.io.decode_raw(tf.strings.reduce_join(texts), tf.uint8)
    counts = count(tf.bitwise.bitwise_and(data, 0xC0) == 0x80)
    return counts, tf.cumsum(tf.strings.length(texts), exclusive=True)


def repeat(values, numbers):
    """`tf.repeat` of int32 `values` in a fraction of its time."""
    numbers = tf.cast(numbers, tf.int32)
    return tf.ragged.range(values, values + numbers).values - tf.ragged.range(numbers).values


def words_of(ids, is_suffix):
    """The index of the word of each piece in its text.

    Args:
        ids: `tf.RaggedTensor` `(batch, pieces)`, of which only the partition is used.
        is_suffix: bool `(all pieces,)`, False for the first piece of a word.

    Returns:
        int32 `(all pieces,)`.
    """
    counts = count(is_suffix)
    return counts[:-1] - repeat(tf.gather(counts, ids.row_starts()), ids.row_lengths())


def in_characters(text, normalized, normalizer, ids, starts, ends):
    """Byte offsets in normalized texts as character offsets in the texts themselves.

    Args:
        text: string `(batch,)`, UTF-8.
        normalized: string `(batch,)`, what `normalizer` makes of `text`.
        normalizer: `tf_text.FastBertNormalizer`.
        ids: `tf.RaggedTensor` `(batch, pieces)`, of which only the partition is used.
        starts: int32 `(all pieces,)`.
        ends: int32 `(all pieces,)`.

    Returns:
        `(starts, ends)`, int32 `(all pieces,)`.
    """
    # ASCII of which nothing was removed has one byte for each character, and keeps its place. All else
    # is more bytes than the ASCII that it may become.
    length = tf.strings.length(text)
    moved = (length != tf.strings.length(normalized)) | (length != tf.strings.length(normalized, "UTF8_CHAR"))

    def others():
        rows = tf.where(moved)[:, 0]
        texts = tf.gather(text, rows)
        counts, first = count_characters(texts)
        _, sources = normalizer.normalize_with_offsets(texts)  # (others, bytes of the normalized + 1)
        # The pieces of these texts among all; where the bytes and the characters of their text begin.
        numbers = tf.gather(ids.row_lengths(), rows)
        where = tf.ragged.range(tf.gather(ids.row_starts(), rows), tf.gather(ids.row_limits(), rows)).values
        begin = repeat(tf.cast(sources.row_starts(), tf.int32), numbers)
        byte = repeat(first, numbers)
        before = repeat(tf.gather(counts, first), numbers)

        def character(offset):
            """The character that a byte of the normalized text comes from."""
            source = tf.cast(tf.gather(sources.values, begin + offset), tf.int32)
            return tf.gather(counts, byte + source) - before

        return (
            tf.tensor_scatter_nd_update(starts, where[:, None], character(tf.gather(starts, where))),
            tf.tensor_scatter_nd_update(ends, where[:, None], character(tf.gather(ends, where) - 1) + 1),
        )

    return tf.cond(tf.reduce_any(moved), others, lambda: (starts, ends))


def merge_long_words(normalized, ids, starts, ends, is_suffix, limit, unknown):
    """Makes one unknown piece of every word of more than `limit` characters.

    Args:
        normalized: string `(batch,)`.
        ids: int32 `tf.RaggedTensor` `(batch, pieces)`.
        starts: int32 `(all pieces,)`, byte offsets in `normalized`.
        ends: int32 `(all pieces,)`.
        is_suffix: bool `(all pieces,)`, False for the first piece of a word.
        limit: characters of the longest word.
        unknown: id of the unknown piece.

    Returns:
        `(ids, starts, ends)` as given, but shorter.
    """
    counts, first = count_characters(normalized)
    shift = repeat(first, ids.row_lengths())
    length = tf.gather(counts, shift + ends) - tf.gather(counts, shift + starts)
    word = count(is_suffix)[:-1] - 1
    too_long = tf.gather(tf.math.segment_sum(length, word) > limit, word)
    ends = tf.where(too_long, tf.gather(tf.math.segment_max(ends, word), word), ends)
    keep = ~(too_long & is_suffix)
    pieces = tf.boolean_mask(tf.where(too_long, unknown, ids.values), keep)
    splits = tf.gather(count(~keep), ids.row_splits) - 1
    ids = tf.RaggedTensor.from_row_splits(pieces, tf.cast(splits, tf.int64), validate=False)
    return ids, tf.boolean_mask(starts, keep), tf.boolean_mask(ends, keep)
