"""The masks of texts: where they are, where they are drawn, and what may stand there."""

import dataclasses

import numpy as np
from keras import ops

from keras_bert_app.data import features as featuring
from keras_bert_app.data import readers
from keras_bert_app.preprocessing.masking import MaskedLMMasker
from keras_bert_app.preprocessing.vocabulary_file import SUFFIX

MASK = "[MASK]"


def positions_of(preprocessor, features, texts):
    """Where the masks of texts are; in a text without any they are drawn, the same each time.

    Args:
        preprocessor: `BertPreprocessor` whose tokenizer knows `[MASK]`.
        features: `Features` of the texts.
        texts: list of str.

    Returns:
        list of int arrays `(masks,)`, word pieces.

    Raises:
        ValueError: a mask is beyond the longest input; the message names its text.
    """
    mask = preprocessor.tokenizer.token_to_id(MASK)
    positions = [np.flatnonzero(row == mask) for row in features.rows["input_word_ids"]]
    for index, (text, found) in enumerate(zip(texts, positions, strict=True)):
        if len(found) != text.count(MASK):
            raise ValueError(
                f"text {index} has {text.count(MASK)} {MASK}, of which {len(found)} are within the "
                f"{preprocessor.sequence_length} word pieces that are read: shorten the text"
            )
    whole = [row for row, found in enumerate(positions) if not len(found)]
    if whole:
        for row, drawn in zip(whole, _draw(preprocessor.tokenizer, features, whole), strict=True):
            positions[row] = drawn
    return positions


def _draw(tokenizer, features, rows):
    """Which pieces of some rows are masked, a list of int arrays."""
    masker, found = MaskedLMMasker(tokenizer, mask_token_rate=1.0, random_token_rate=0.0), []
    for start in range(0, len(rows), featuring.CHUNK):
        inputs = dataclasses.replace(features, extras={}).inputs(rows[start : start + featuring.CHUNK])
        masked = {name: ops.convert_to_numpy(tensor) for name, tensor in masker(inputs).items()}
        pairs = zip(masked["masked_lm_positions"], masked["masked_lm_weights"] > 0, strict=True)
        found += [positions[used] for positions, used in pairs]
    return found


def ids_of(tokenizer, words):
    """The ids of words, each once, a list of int.

    Raises:
        ValueError: there is no word, or one is not a single word piece.
    """
    if not words:
        raise ValueError("targets is empty: give at least one word, or None for the whole vocabulary")
    known, found = set(tokenizer.vocabulary), {}
    for index, word in enumerate(words):
        readers.check_text(word, f"targets[{index}]")
        pieces = [word]
        if word not in known:
            pieces = [tokenizer.id_to_token(int(piece)) for piece in tokenizer([word])[0].numpy()]
        if len(pieces) != 1 or pieces == ["[UNK]"]:
            raise ValueError(
                f"targets[{index}]={word!r} is not one word piece, but {' '.join(pieces) or 'none'}: "
                "give words that are in the vocabulary"
            )
        found[tokenizer.token_to_id(pieces[0])] = None
    return list(found)


def filled(text, place, token):
    """The text with a word piece in a place, `(start, end)`; one with `##` is joined to what is before it."""
    start, end = place
    joined = token.startswith(SUFFIX) and token != SUFFIX
    before = text[:start].rstrip() + token[len(SUFFIX) :] if joined else text[:start] + token
    return before + text[end:]
