"""Which word piece stands for a word: its first, in the window that shows the most around it."""

import numpy as np


def first_pieces(features):
    """Where the word piece that stands for each word is.

    Args:
        features: `Features` of texts that are split into words, with `places`.

    Returns:
        dict of int arrays `(found words,)`, ordered by example and word: `example` and `word`; `item` and
        `piece`, the row and the place in it of the word's first piece. A word without word pieces, such
        as a control character, is not among them.
    """
    found = {}
    for item, example in enumerate(features.examples.tolist()):
        words, starts = features.places["words"][item], features.places["starts"][item]
        is_first = (words >= 0) & (words != np.concatenate([[-1], words[:-1]]))
        last = len(words) - 1
        for piece in np.flatnonzero(is_first).tolist():
            key = example, int(words[piece])
            begin = int(starts[piece])
            # A window may begin in the middle of a word; the one before it has the word's first piece.
            known = found.get(key)
            if known is not None and known[3] != begin:
                continue
            context = min(piece, last - piece)
            if known is None or context > known[2]:
                found[key] = item, piece, context, begin
    keys = sorted(found)
    columns = np.array([(*key, *found[key][:2]) for key in keys], int).reshape(-1, 4).T
    return dict(zip(("example", "word", "item", "piece"), columns, strict=True))
