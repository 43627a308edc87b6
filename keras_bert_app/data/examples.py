"""Examples for pretraining: documents of sentences become rows of one or two segments."""

import numpy as np

OBJECTIVES = ("next_sentence", "sentence_order", "masked_lm")


class SegmentPairs:
    """Pairs of segments, for the next sentence and sentence order objectives.

    A segment is one or more sentences that follow each other. For the next sentence objective
    the second segment is what follows the first in the document, or, in half of the pairs and
    where nothing follows, comes from another document; the label is 1 if it does. For sentence
    order the second always follows, but in half of the pairs the two are swapped; the label is 1
    if they are. A document of one sentence gives no pair then.

    Args:
        frame: ids of `[CLS]` and `[SEP]`.
        sequence_length: most pieces of a row.
        short_seq_prob: share of the rows that are made for a shorter, random length.
        swap: True for sentence order.

    Reference: [google-research/bert](https://github.com/google-research/bert),
    `create_pretraining_data.py`; sentence order: [Lan et al., 2020](https://arxiv.org/abs/1909.11942).
    """

    def __init__(self, frame, sequence_length, short_seq_prob=0.1, swap=False):
        self.frame = frame
        self.room = sequence_length - 3
        self.short_seq_prob = short_seq_prob
        self.swap = swap

    def __call__(self, documents, random):
        """Yields the examples of some documents.

        Args:
            documents: list of `Document`, at least two for next sentence.
            random: `numpy.random.Generator`.

        Yields:
            dicts of int32 `(pieces,)` `input_word_ids` and `input_type_ids`, and the int
            `next_sentence_labels`.
        """
        for index in range(len(documents)):
            yield from self._of_document(documents, index, random)

    def _of_document(self, documents, index, random):
        document = documents[index]
        sentence, count = 0, len(document.ends)
        while sentence < count:
            short = random.random() < self.short_seq_prob
            target = int(random.integers(2, self.room + 1)) if short else self.room
            last = document.last(sentence, target)
            if self.swap and last == sentence and count > 1:
                # One sentence has no order: with the next, the last with the one before it.
                sentence = min(sentence, count - 2)
                last = sentence + 1
            alone = last == sentence
            cut = sentence if alone else int(random.integers(sentence, last))  # last sentence of the first
            begin, middle, end = document.start(sentence), int(document.ends[cut]), int(document.ends[last])
            first, second, label = document.pieces[begin:middle], document.pieces[middle:end], 0
            sentence = last + 1
            if self.swap:
                if alone:
                    return  # the document is one sentence
                label = int(random.random() < 0.5)
                first, second = (second, first) if label else (first, second)
            elif alone or random.random() < 0.5:
                second, label = self._from_another(documents, index, target - len(first), random), 1
                sentence = cut + 1  # what follows is still to be used
            yield self._pack(*_truncate(first, second, self.room, random), label)

    def _from_another(self, documents, index, target, random):
        """Sentences from a random place of another document."""
        other = int(random.integers(len(documents) - 1))
        document = documents[other + (other >= index)]
        sentence = int(random.integers(len(document.ends)))
        return document.pieces[document.start(sentence) : document.ends[document.last(sentence, target)]]

    def _pack(self, first, second, label):
        begin, separator = self.frame
        types = np.zeros(len(first) + len(second) + 3, "int32")
        types[len(first) + 2 :] = 1
        row = np.concatenate([[begin], first, [separator], second, [separator]]).astype("int32")
        return {"input_word_ids": row, "input_type_ids": types, "next_sentence_labels": label}


def _truncate(first, second, room, random):
    """The two segments cut to `room` pieces: the longer is cut, at its front or its end by chance."""
    excess = max(len(first) + len(second) - room, 0)
    gap = len(first) - len(second)
    longer = min(abs(gap), excess)  # from the longer alone; then one piece from each, the second first
    rest = excess - longer
    cuts = [rest // 2 + longer * (gap > 0), rest - rest // 2 + longer * (gap < 0)]
    segments = []
    for segment, cut in zip((first, second), cuts, strict=True):
        front = int(random.binomial(cut, 0.5)) if cut else 0
        segments.append(segment[front : len(segment) - cut + front])
    return segments


def pack_documents(documents, frame, sequence_length):
    """Full rows of one segment, for a masked language model alone.

    The documents stand one after the other with a `[SEP]` between them, and are cut into rows
    wherever a row is full: no piece is left out and only the last row is shorter.

    Args:
        documents: list of `Document`.
        frame: ids of `[CLS]` and `[SEP]`.
        sequence_length: pieces of a row.

    Yields:
        dicts of int32 `(pieces,)` `input_word_ids` and `input_type_ids`, which is zero.

    Reference: FULL-SENTENCES in [Liu et al., 2019](https://arxiv.org/abs/1907.11692), section 4.2.
    """
    begin, separator = frame
    stream = np.concatenate([part for d in documents for part in (d.pieces, [separator])])[:-1]
    room = sequence_length - 2
    for start in range(0, len(stream), room):
        row = np.concatenate([[begin], stream[start : start + room], [separator]]).astype("int32")
        yield {"input_word_ids": row, "input_type_ids": np.zeros(len(row), "int32")}
