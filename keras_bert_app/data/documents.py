"""Documents as word pieces, with the places where their sentences end."""

import dataclasses
import time

import numpy as np

from keras_bert_app.data.corpus import split_sentences
from keras_bert_app.progress import SAY_EVERY, say

TOGETHER = 512  # sentences tokenized in one call, at least


@dataclasses.dataclass(frozen=True)
class Document:
    """The word pieces of a document, and where its sentences end.

    Args:
        pieces: int32 `(pieces,)`.
        ends: int `(sentences,)`: a sentence's pieces end before `ends[i]`.
    """

    pieces: np.ndarray
    ends: np.ndarray

    def start(self, sentence):
        """The place of the first piece of a sentence."""
        return int(self.ends[sentence - 1]) if sentence else 0

    def last(self, sentence, target):
        """The sentence up to which there are `target` pieces, counted from the start of `sentence`."""
        last = int(np.searchsorted(self.ends, self.start(sentence) + target))
        return min(max(last, sentence), len(self.ends) - 1)


def tokenize_documents(texts, tokenizer, language, room, count):
    """Yields a `Document` for each text that has a word piece.

    Args:
        texts: iterable of str.
        tokenizer: `BertTokenizer`.
        language: see `split_sentences`.
        room: pieces of the longest sentence; a longer one is cut into parts of half of it.
        count: dict of int, in which `documents`, `sentences`, `split_sentences`, `pieces` and `unknown`
            are counted.
    """
    unknown = tokenizer.token_to_id("[UNK]")
    said = time.monotonic()
    sentences = (split_sentences(text, language) for text in texts)
    for group in _groups(sentences):
        ids = tokenizer([sentence for document in group for sentence in document])
        pieces, splits = ids.values.numpy(), ids.row_splits.numpy()
        count["unknown"] += int((pieces == unknown).sum())
        first = 0
        for document in group:
            bounds = splits[first : first + len(document) + 1]
            first += len(document)
            ends = np.unique(bounds[1:][np.diff(bounds) > 0] - bounds[0])
            if not ends.size:
                continue
            count["documents"] += 1
            count["sentences"] += len(ends)
            count["pieces"] += int(ends[-1])
            long = np.flatnonzero(np.diff(ends, prepend=0) > room)
            if long.size:
                count["split_sentences"] += len(long)
                begins = np.concatenate([[0], ends[:-1]])
                parts = [np.arange(begins[i], ends[i], room // 2)[1:] for i in long]
                ends = np.unique(np.concatenate([ends, *parts]))
            yield Document(pieces[bounds[0] : bounds[-1]], ends)
        if time.monotonic() - said >= SAY_EVERY:
            say(f"{count['documents']:,} documents, {count['pieces']:,} word pieces")
            said = time.monotonic()


def _groups(sentences):
    """Lists of documents that have at least `TOGETHER` sentences in all, but for the last."""
    group, size = [], 0
    for document in sentences:
        group.append(document)
        size += len(document)
        if size >= TOGETHER:
            yield group
            group, size = [], 0
    if size:
        yield group
