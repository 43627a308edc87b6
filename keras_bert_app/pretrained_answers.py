"""What a BERT answers with the heads it was pretrained with: the word in a gap, and what follows a text."""

import re

import keras
import numpy as np
from keras import ops

from keras_bert_app.data import buckets, features, readers
from keras_bert_app.preprocessing.vocabulary_file import SUFFIX

MASK = "[MASK]"
TOP_K = 5


class FillMask:
    """Guesses the words that are masked in a text; call it with texts that have `[MASK]` in them.

    Args:
        preprocessor: `BertPreprocessor`.
        model: `keras.Model` with the masked language model's head, see `pretrainer`.

    Call arguments:
        texts: str or list of str, each with one `[MASK]` or several; one stands for one word piece.
        top_k: guesses for each `[MASK]`. Defaults to 5, with `targets` to all of them.
        targets: the words that are to be ranked, and no others; each a single word piece. Defaults
            to the whole vocabulary.
        batch_size: texts that go through the model together.

    Returns:
        For each text a list with one entry for each `[MASK]`: its guesses, from the most to the least
        probable, as dicts of

        - `token`, the word piece, and `id`, its place in the vocabulary;
        - `score`, its probability among the whole vocabulary, with `targets` too;
        - `text`, the text with the word piece in the place of this `[MASK]`; one that begins with
          `##` is joined to the word before it.

    Raises:
        ValueError: the model has no such head, or fewer tokens than the tokenizer; a text is empty,
            1 MB and more, has no `[MASK]`, or one that is beyond the longest input; a target is not a
            single word piece; or a number is not possible.

    Example:

    >>> preprocessor, model = kba.from_pretrained("uncased_L-12_H-768_A-12", head="pretrainer")
    >>> [[guesses]] = FillMask(preprocessor, model)("The film was [MASK].", targets=["great"])
    >>> guesses[0]["token"], guesses[0]["text"]
    ('great', 'The film was great.')

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3.1.
    """

    def __init__(self, preprocessor, model):
        _check_head(model, "mlm_logits", "masked_lm")
        tokens, rows = preprocessor.tokenizer.vocabulary_size, model.output["mlm_logits"].shape[-1]
        if tokens > rows:
            raise ValueError(
                f"the tokenizer has {tokens} tokens, the model {model.name} {rows}: give the model's own"
            )
        self.preprocessor = _that_knows_masks(preprocessor)
        self.model = _without_compilation(keras.Model(model.input, model.output["mlm_logits"]))

    def __call__(self, texts, top_k=None, targets=None, batch_size=32):
        texts = readers.check_texts(texts)
        _check_batch_size(batch_size)
        candidates = self._candidates(targets)
        if top_k is None:
            top_k = len(candidates) if targets is not None else min(TOP_K, len(candidates))
        if type(top_k) is not int or not 1 <= top_k <= len(candidates):
            raise ValueError(f"top_k={top_k!r}: give a whole number from 1 to {len(candidates)}")
        for index, text in enumerate(texts):
            if MASK not in text:
                raise ValueError(
                    f"text {index} has no {MASK}: write it, in capitals, in the place of a word: {text!r:.80}"
                )
        encoded = features.encode(self.preprocessor, texts)
        positions = self._positions(texts, encoded.rows["input_word_ids"])
        answers = [None] * len(texts)
        for indices in buckets.sorted_batches(encoded.lengths(), batch_size):
            batch = encoded.inputs(indices)
            width = max(len(positions[index]) for index in indices)
            batch["masked_lm_positions"] = np.zeros((len(indices), width), "int32")
            for row, index in enumerate(indices):
                batch["masked_lm_positions"][row, : len(positions[index])] = positions[index]
            logits = self.model.predict_on_batch(batch)  # (batch, predictions, vocab_size)
            for index, found in zip(indices, logits, strict=True):
                scores = _softmax(found[: len(positions[index])])[:, candidates]  # (masks, candidates)
                scores, best = map(ops.convert_to_numpy, ops.top_k(scores, top_k))
                answers[index] = self._guesses(texts[index], candidates[best], scores)
        return answers

    def _candidates(self, targets):
        """The ids that are ranked, int array `(candidates,)`."""
        tokenizer = self.preprocessor.tokenizer
        if targets is None:  # an embedding may have more rows than there are tokens
            return np.arange(tokenizer.vocabulary_size)
        targets = [targets] if isinstance(targets, str) else list(targets)
        if not targets:
            raise ValueError("targets is empty: give at least one word, or None for the whole vocabulary")
        known, found = set(tokenizer.vocabulary), {}
        for index, target in enumerate(targets):
            readers.check_text(target, f"targets[{index}]")
            pieces = [target]
            if target not in known:
                pieces = [tokenizer.id_to_token(int(piece)) for piece in tokenizer([target])[0].numpy()]
            if len(pieces) != 1 or pieces == ["[UNK]"]:
                raise ValueError(
                    f"targets[{index}]={target!r} is not one word piece, but {' '.join(pieces) or 'none'}: "
                    "give words that are in the vocabulary"
                )
            found[tokenizer.token_to_id(pieces[0])] = None
        return np.array(list(found))

    def _positions(self, texts, rows):
        """Where each text has its masks, list of int arrays `(masks,)`."""
        mask = self.preprocessor.tokenizer.token_to_id(MASK)
        positions = [np.flatnonzero(row == mask) for row in rows]
        for index, (text, found) in enumerate(zip(texts, positions, strict=True)):
            if len(found) != text.count(MASK):
                raise ValueError(
                    f"text {index} has {text.count(MASK)} {MASK}, of which {len(found)} are within the "
                    f"{self.preprocessor.sequence_length} word pieces that are read: shorten the text"
                )
        return positions

    def _guesses(self, text, ids, scores):
        """The answer for one text, from arrays `(masks, top_k)`."""
        places = [match.span() for match in re.finditer(re.escape(MASK), text)]
        answer = []
        for (start, end), row, probabilities in zip(places, ids, scores, strict=True):
            guesses = []
            for index, score in zip(row.tolist(), probabilities.tolist(), strict=True):
                token = self.preprocessor.tokenizer.id_to_token(index)
                joined = token.startswith(SUFFIX) and token != SUFFIX
                before = text[:start].rstrip() + token[len(SUFFIX) :] if joined else text[:start] + token
                guesses.append({"token": token, "score": score, "id": index, "text": before + text[end:]})
            answer.append(guesses)
        return answer


class NextSentence:
    """Tells whether a text follows another; call it with pairs of texts.

    Args:
        preprocessor: `BertPreprocessor`.
        model: `keras.Model` with the next sentence head, see `pretrainer`.

    Call arguments:
        pairs: list of `(first, second)`, both str; or one such tuple.
        batch_size: pairs that go through the model together.

    Returns:
        list of `{"is_next": ..., "score": ...}`, one for each pair. `score` is the probability that
        the second text follows the first where that was taken from, from 0 to 1; `is_next` is True
        if it is 0.5 or more.

    Raises:
        ValueError: the model has no such head, an item is no pair, or a text is empty or 1 MB and
            more; the message names its index.

    Example:

    >>> preprocessor, model = kba.from_pretrained("uncased_L-12_H-768_A-12", head="pretrainer")
    >>> answers = NextSentence(preprocessor, model)([("He opened the door.", "Then he went in.")])
    >>> sorted(answers[0])
    ['is_next', 'score']

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3.1.
    """

    def __init__(self, preprocessor, model):
        _check_head(model, "nsp_logits", "next_sentence")
        inputs = {name: tensor for name, tensor in model.input.items() if name != "masked_lm_positions"}
        self.preprocessor = preprocessor
        self.model = _without_compilation(keras.Model(inputs, model.output["nsp_logits"]))

    def __call__(self, pairs, batch_size=32):
        pairs = readers.check_pairs(pairs)
        _check_batch_size(batch_size)
        if not pairs:
            return []
        logits = buckets.predict(self.model, features.encode(self.preprocessor, pairs), batch_size)
        scores = _softmax(logits)[:, 0].tolist()  # index 0: it is the next
        return [{"is_next": score >= 0.5, "score": score} for score in scores]


# What `load` knows by the name of a task: the head in a checkpoint, and what answers with it.
TASKS = {"fill-mask": ("masked_lm", FillMask), "next-sentence": ("next_sentence", NextSentence)}


def _check_head(model, output, head):
    if not isinstance(model.output, dict) or output not in model.output:
        raise ValueError(f"the model {model.name} has no {head} head: give one from pretrainer(encoder)")


def _check_batch_size(batch_size):
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r}: give a whole number of at least 1")


def _that_knows_masks(preprocessor):
    """The preprocessor, with a tokenizer to which a `[MASK]` in a text is no word in brackets."""
    tokenizer = preprocessor.tokenizer
    if MASK in tokenizer.special_tokens:
        return preprocessor
    special_tokens = (*tokenizer.special_tokens, MASK)
    options = {"vocabulary": tokenizer.vocabulary, "special_tokens": special_tokens}
    return preprocessor.replace(tokenizer=tokenizer.from_config({**tokenizer.get_config(), **options}))


def _without_compilation(model):
    if keras.config.backend() == "tensorflow":
        model.jit_compile = False  # XLA would compile anew for each length
    return model


def _softmax(logits):
    return np.asarray(ops.convert_to_numpy(ops.softmax(np.asarray(logits, "float32"))))
