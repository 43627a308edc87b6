"""Which word pieces of a text are kept when there are more than fit.

Every strategy takes the lengths of the segments, a list of int32 `(batch,)`, and the budget, the
word pieces that all segments together may have. It returns for each segment a list of spans that
are kept, `(begin, end)`, int32 `(batch,)`.
"""

import tensorflow as tf


def longest_first(lengths, budget):
    """The longest segment loses a piece until all fit, of equal ones the last: google-research/bert."""
    table = tf.sort(tf.stack(lengths, axis=1), axis=1)  # (batch, segments), from short to long
    before = tf.cumsum(table, axis=1, exclusive=True)
    others = tf.range(len(lengths), 0, -1)
    # All segments are cut to one level, the highest that fits: short ones stay whole, the rest share.
    level = tf.reduce_max((budget - before) // others, axis=1)
    level = tf.maximum(level, 0)
    kept = [tf.minimum(length, level) for length in lengths]
    rest = tf.maximum(budget, 0) - tf.add_n(kept)  # fewer than segments that are cut
    for index, length in enumerate(lengths):
        one = tf.cast((length > level) & (rest > 0), tf.int32)
        kept[index] += one
        rest -= one
    return [[(0, number)] for number in kept]


def in_order(lengths, budget, order):
    """The segments get what they need, or what is left, in the order of `order`."""
    rest, kept = tf.maximum(budget, 0), [None] * len(lengths)
    for index in order:
        kept[index] = tf.minimum(lengths[index], rest)
        rest = rest - kept[index]
    return [[(0, number)] for number in kept]


def waterfall(lengths, budget):
    """The first segment gets what it needs, the next what is left, and so on."""
    return in_order(lengths, budget, range(len(lengths)))


def only_first(lengths, budget):
    """Only the first segment is cut, unless the others alone are too long."""
    return in_order(lengths, budget, [*range(1, len(lengths)), 0])


def only_second(lengths, budget):
    """Only the second segment is cut, unless the others alone are too long."""
    return in_order(lengths, budget, [0, *range(2, len(lengths)), 1])


def head_tail(lengths, budget):
    """Of a text that is too long a quarter from its start and three from its end are kept.

    Segments share as in `longest_first`. Of 510 pieces these are the first 128 and the last 382,
    the best split of [Sun et al., 2019](https://arxiv.org/abs/1905.05583), table 2.
    """
    kept = []
    for length, [(_, number)] in zip(lengths, longest_first(lengths, budget), strict=True):
        tail = tf.where(number < length, 3 * number // 4, 0)
        kept.append([(0, number - tail), (length - tail, length)])
    return kept


STRATEGIES = {
    function.__name__: function for function in (longest_first, waterfall, only_first, only_second, head_tail)
}
