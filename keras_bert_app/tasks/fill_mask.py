"""The words that are masked in a text."""

import dataclasses
import re
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_bert_app.arguments import check_arguments
from keras_bert_app.data import features as featuring
from keras_bert_app.data import readers
from keras_bert_app.data.masks import MASK, filled, ids_of, positions_of
from keras_bert_app.heads import pretrained_head, pretrainer
from keras_bert_app.preprocessing.masking import MaskedLMMasker
from keras_bert_app.reports import guesses as reports

TOP_K = 5
WORST = 20  # mistakes in a report
NOTHING = "none of the texts has a word that can be masked: give others"


@dataclasses.dataclass(frozen=True)
class FillMask:
    """Guesses the words that are masked in a text, with the head that BERT was pretrained with.

    An input is a text with one `[MASK]` or several; one stands for one word piece. An example is a text as it
    is, and has no target: in training 15 % of its word pieces, whole words, are drawn anew for every batch;
    to be measured the same are masked each time. For a corpus of documents there is `pretrain`.

    Args:
        top_k: guesses for each `[MASK]`. Defaults to 5, with `targets` to all of them.
        targets: the words that are to be ranked, and no others; each a single word piece. Defaults to the
            whole vocabulary.

    Example:

    >>> FillMask(targets=["good", "bad"]).top_k is None
    True

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3.1.
    """

    top_k: int | None = None
    targets: list | None = None

    name: ClassVar = "fill-mask"
    head: ClassVar = "masked_lm"
    by_name: ClassVar = True
    example_texts: ClassVar = {"text": "A warm and [MASK] film."}
    text_inputs: ClassVar = ("text",)
    metric: ClassVar = "log_likelihood"
    per_piece: ClassVar = False
    sequence_length: ClassVar = 128
    is_tuned: ClassVar = False

    def __post_init__(self):
        check_arguments({"top_k": self.top_k}, optional=("top_k",))
        if self.targets is not None:
            given = [self.targets] if isinstance(self.targets, str) else self.targets
            if not hasattr(given, "__iter__"):
                raise ValueError(f"targets={self.targets!r}: give a list of words")
            given = list(given)
            object.__setattr__(self, "targets", given)  # what a run folder can keep

    @classmethod
    def of_checkpoint(cls, checkpoint):
        """See `tasks`."""
        return cls()

    def read(self, source, columns):
        """The texts of a file, see `readers.read_texts`, or of an iterable."""
        if isinstance(source, readers.PATHS):
            texts = list(readers.read_texts(source, columns.get("text", "text")))
            if Path(source).name.removesuffix(".gz").endswith(".txt"):
                texts = [text for text in texts if text.strip()]  # between documents a line is empty
        else:
            texts = [row[0] if isinstance(row, tuple) and row[1:] == (None,) else row for row in source]
        if not texts:
            raise ValueError("there is no text to learn from: give some")
        for index, text in enumerate(readers.check_texts(texts)):
            if MASK in text:
                raise ValueError(f"text {index} holds {MASK}: give the text as it was: {text!r:.80}")
        return [(text, None) for text in texts]

    def read_inputs(self, source, columns):
        """See `readers.read_texts`."""
        return list(readers.read_texts(source, columns.get("text", "text")))

    def learn(self, examples):
        """The task as it is."""
        return self

    def describe(self):
        """See `tasks`."""
        return "the word pieces that are masked"

    def prepared(self, preprocessor):
        """The preprocessor, with a tokenizer to which a `[MASK]` in a text is no word in brackets."""
        tokenizer = preprocessor.tokenizer
        if MASK in tokenizer.special_tokens:
            return preprocessor
        special_tokens = (*tokenizer.special_tokens, MASK)
        options = {"vocabulary": tokenizer.vocabulary, "special_tokens": special_tokens}
        return preprocessor.replace(tokenizer=tokenizer.from_config({**tokenizer.get_config(), **options}))

    def build(self, encoder, dropout):
        """See `heads.pretrainer`, of which it is the masked language model."""
        return self.pretrained(pretrainer(encoder, [self.head]))

    def pretrained(self, model):
        """The masked language model of a `pretrainer`: one output, `(batch, predictions, vocab_size)`."""
        return pretrained_head(model, self.head)

    def training_model(self, model, preprocessor):
        """From the encoder's inputs to the cross-entropy of each masked piece, and 1, or 0 where a row has
        fewer: `(batch, predictions, 2)`. The masks are drawn in it."""
        inputs = {name: model.input[name] for name in featuring.INPUTS}
        masked = MaskedLMMasker(preprocessor.tokenizer, name="masker")(inputs)
        names = (*featuring.INPUTS, "masked_lm_positions")
        logits = model({name: masked[name] for name in names})
        losses = ops.sparse_categorical_crossentropy(masked["masked_lm_ids"], logits, from_logits=True)
        weights = masked["masked_lm_weights"]
        return keras.Model(inputs, ops.stack([losses * weights, weights], axis=-1))

    def compile_options(self):
        """The mean of the cross-entropies that the training model gives."""
        return {"loss": _mean}

    def predictor(self, model, preprocessor):
        """From the model's inputs and `masked_lm_ids`, of what is masked, to its guesses.

        Returns:
            A `keras.Model` that masks the positions that are given, and returns `ids` and `scores`, the
            guesses and their probabilities, `(batch, predictions, top_k)`, and `losses`, the cross-entropy of
            what is masked, `(batch, predictions)`.
        """
        tokenizer = preprocessor.tokenizer
        candidates, top_k = self._candidates(tokenizer)
        rows = model.output_shape[-1]
        if tokenizer.vocabulary_size > rows:
            raise ValueError(
                f"the tokenizer has {tokenizer.vocabulary_size} tokens, the model {rows}: "
                "give the model's own"
            )
        inputs, right = dict(model.input), keras.Input((None,), dtype="int32", name="masked_lm_ids")
        ids, positions = inputs["input_word_ids"], inputs["masked_lm_positions"]
        places = (ops.cumsum(ops.ones_like(ids), axis=1) - 1)[:, None]  # (batch, 1, length)
        # Where a row has fewer, the position is 0, which is [CLS].
        hidden = ops.logical_and(ops.equal(positions[..., None], places), ops.greater(places, 0))
        ids = ops.where(ops.any(hidden, axis=1), tokenizer.token_to_id(MASK), ids)
        logits = ops.log_softmax(model({**inputs, "input_word_ids": ids}))
        losses = -ops.take_along_axis(logits, right[..., None], axis=-1)[..., 0]
        values, best = ops.top_k(ops.take(logits, candidates, axis=-1), top_k)
        outputs = {"ids": ops.take(candidates, best), "scores": ops.exp(values), "losses": losses}
        return keras.Model({**inputs, "masked_lm_ids": right}, outputs)

    def _candidates(self, tokenizer):
        """The ids that are ranked, int32 array `(candidates,)`, and how many are to be given."""
        # An embedding may have more rows than there are tokens.
        found = range(tokenizer.vocabulary_size)
        if self.targets is not None:
            found = ids_of(tokenizer, self.targets)
        top_k = self.top_k
        if top_k is None:
            top_k = len(found) if self.targets is not None else min(TOP_K, len(found))
        if top_k > len(found):
            raise ValueError(f"top_k={top_k!r}: give a whole number from 1 to {len(found)}")
        return np.array(list(found), "int32"), top_k

    def check(self, inputs):
        """The list of texts, each with a `[MASK]`; one alone is a list of one."""
        texts = readers.check_texts(inputs)
        for index, text in enumerate(texts):
            if MASK not in text:
                raise ValueError(
                    f"text {index} has no {MASK}: write it, in capitals, in the place of a word: {text!r:.80}"
                )
        return texts

    def encode(self, preprocessor, inputs):
        """See `features.encode`; what is masked is in `extras`. In a text without a `[MASK]` it is drawn."""
        features = featuring.encode(preprocessor, inputs)
        positions = positions_of(preprocessor, features, inputs)
        rows = zip(features.rows["input_word_ids"], positions, strict=True)
        extras = {"masked_lm_positions": positions, "masked_lm_ids": [row[found] for row, found in rows]}
        return dataclasses.replace(features, extras=extras, kept={"tokenizer": preprocessor.tokenizer})

    def training_targets(self, features, examples, class_weights=None):
        """Nothing, float32 `(examples, 1)`: the training model draws them.

        Raises:
            ValueError: no text has a word piece.
        """
        if features.lengths().max() <= 2:  # [CLS] and [SEP]
            raise ValueError(NOTHING)
        return np.zeros((len(examples), 1), "float32"), None

    def answers(self, outputs, features, inputs):
        """The words that may be masked.

        Returns:
            list of `{"masks": [...]}` with a list for each `[MASK]`: its guesses, from the most to the least
            probable, as dicts of

            - `token`, the word piece, and `id`, its place in the vocabulary;
            - `score`, its probability among the whole vocabulary, with `targets` too;
            - `text`, the text with the word piece in the place of this `[MASK]`; one that begins with `##` is
              joined to the word before it.
        """
        tokenizer, answers = features.kept["tokenizer"], []
        for text, output in zip(inputs, outputs, strict=True):
            places = [match.span() for match in re.finditer(re.escape(MASK), text)]
            masks = []
            found = output["ids"].tolist(), output["scores"].tolist()  # padded
            for place, ids, scores in zip(places, *found, strict=False):
                guesses = []
                for index, score in zip(ids, scores, strict=True):
                    token = tokenizer.id_to_token(index)
                    guess = {"token": token, "score": score, "id": index}
                    guesses.append({**guess, "text": filled(text, place, token)})
                masks.append(guesses)
            answers.append({"masks": masks})
        return answers

    def collapsed(self, outputs, features):
        """True if the best guess is always the same."""
        guesses = [
            output["ids"][: len(positions), 0]
            for output, positions in zip(outputs, features.extras["masked_lm_positions"], strict=True)
        ]
        return len(set(np.concatenate(guesses).tolist())) < 2

    def report(self, outputs, features, examples):
        """How good the guesses are.

        Returns:
            dict: `examples` and `masked`, the numbers of texts and of masked word pieces; `accuracy`, the
            share of those that are the best guess, which with `targets` is one of these; `loss`, the mean
            cross-entropy in nats; `log_likelihood`, which is `-loss`; `perplexity`, its exponential; and
            `worst_mistakes`, the wrong guesses with the highest score.
        """
        right, losses, mistakes = 0, [], []
        tokenizer, ids = features.kept["tokenizer"], features.extras["masked_lm_ids"]
        for number, (output, wanted) in enumerate(zip(outputs, ids, strict=True), start=1):
            best, scores = output["ids"][: len(wanted), 0], output["scores"][: len(wanted), 0]
            losses += output["losses"][: len(wanted)].tolist()
            right += int((best == wanted).sum())
            for index in np.flatnonzero(best != wanted).tolist():
                pieces = (tokenizer.id_to_token(int(values[index])) for values in (wanted, best))
                mistake = dict(zip(("label", "predicted"), pieces, strict=True))
                text = examples[number - 1][0]
                mistakes.append({"row": number, "text": text, **mistake, "score": float(scores[index])})
        masked = len(losses)
        if not masked:
            raise ValueError(NOTHING)
        loss = float(np.mean(losses))
        return {
            "examples": len(examples),
            "masked": masked,
            "accuracy": right / masked,
            "loss": loss,
            "log_likelihood": -loss,
            "perplexity": float(np.exp(loss)),
            "worst_mistakes": sorted(mistakes, key=lambda row: -row["score"])[:WORST],
        }

    def show(self, report):
        """The report of `report` as lines of text."""
        return reports.guesses(report)

    def serve(self, model, preprocessor):
        """What the exported model does: see `signatures.guessing`."""
        from keras_bert_app.signatures.guessing import guessing

        return guessing(model, preprocessor, *self._candidates(preprocessor.tokenizer))


def _mean(_, given):
    """The mean of the first numbers, weighted with the second."""
    return ops.sum(given[..., 0]) / ops.maximum(ops.sum(given[..., 1]), 1.0)
