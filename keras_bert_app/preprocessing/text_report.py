"""What packing does to texts: how much is cut, padded and unknown."""

from collections import Counter

import numpy as np
import tensorflow as tf

CHUNK = 1024  # texts tokenized in one call
MOST = 20  # unknown words named


def report(preprocessor, texts, batch_size):
    """See `BertPreprocessor.report`; `texts` are its segments, from `inputs.to_segments`."""
    if type(batch_size) is not int or batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r}: give a whole number of at least 1")
    tokenizer = preprocessor.tokenizer
    lengths, unknown = [], Counter()
    for start in range(0, texts[0].shape[0], CHUNK):
        total = np.full(texts[0][start : start + CHUNK].shape[0], 1 + len(texts))
        for segment in texts:
            chunk = segment[start : start + CHUNK]
            split = isinstance(chunk, tf.RaggedTensor)  # into words
            flat = chunk.values if split else chunk
            found = tokenizer(flat, return_offsets=True)
            pieces = found["ids"].row_lengths()
            total += (tf.reduce_sum(chunk.with_values(pieces), axis=1) if split else pieces).numpy()
            unknown.update(_unknown_words(tokenizer, flat.numpy(), found))
        lengths.append(total)
    lengths = np.concatenate(lengths) if lengths else np.zeros(0, int)
    kept = np.minimum(lengths, preprocessor.sequence_length)
    padded = 0
    for start in range(0, len(kept), batch_size):
        batch = kept[start : start + batch_size]
        padded += len(batch) * int(preprocessor.width(preprocessor.sequence_length)(batch.max()))
    return {
        "texts": len(lengths),
        "longest": int(lengths.max(initial=0)),
        "truncated": int((lengths > kept).sum()),
        "pieces": int((lengths - 1 - len(texts)).sum()),
        "cut_pieces": int((lengths - kept).sum()),
        "padding": float(1 - kept.sum() / max(padded, 1)) if padded else 0.0,
        "unknown": unknown.total(),
        "unknown_words": unknown.most_common(MOST),
    }


def _unknown_words(tokenizer, texts, found):
    """The words of `texts` that are `[UNK]`, as they are written."""
    starts, ends = found["starts"].values.numpy(), found["ends"].values.numpy()
    pieces = np.flatnonzero(found["ids"].values == tokenizer.token_to_id("[UNK]"))
    rows = np.searchsorted(found["ids"].row_splits, pieces, side="right") - 1
    before = None
    for piece, row in zip(pieces, rows, strict=True):
        if row != before:
            text, before = texts[row].decode("utf-8", "replace"), row
        yield text[starts[piece] : ends[piece]]
