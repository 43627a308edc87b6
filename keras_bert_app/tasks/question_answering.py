"""The answer to a question, found in a text."""

import dataclasses
import math
import warnings
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_bert_app.arguments import check_arguments
from keras_bert_app.data import features as featuring
from keras_bert_app.data import readers, spans, squad
from keras_bert_app.heads import span_classifier
from keras_bert_app.metrics import squad as metrics
from keras_bert_app.reports import answers as reports

WORST = 20  # mistakes in a report
IMPOSSIBLE = -1e9  # the logit of padding in training


@dataclasses.dataclass(frozen=True)
class QuestionAnswering:
    """The answer to a question, a span of a text, or none.

    An input is a pair `(question, context)`; a target a dict with `answers`, a list of dicts of `text` and
    `answer_start`, the character of the context where it begins.

    Args:
        no_answer: True if a question may have no answer in its context. Found in the training data if not
            given.
        threshold: how much better no answer must be than the best one to be given. With `no_answer` it is
            found with the validation data, and otherwise 0.
        stride: a context that does not fit is read in windows that begin so many word pieces apart. Defaults
            to a third of the preprocessor's `sequence_length`.
        max_answer_length: most word pieces of an answer.
        num_candidates: answers that are given with the best one.

    Example:

    >>> task = QuestionAnswering().learn([(("Who laughs?", "Anna laughs."), {"answers": []})])
    >>> task.no_answer
    True

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), sections 4.2 and 4.3.
    """

    no_answer: bool | None = None
    threshold: float | None = None
    stride: int | None = None
    max_answer_length: int = 30
    num_candidates: int = 5

    name: ClassVar = "question-answering"
    head: ClassVar = "span_classifier"
    text_inputs: ClassVar = ("question", "context")
    sequence_length: ClassVar = 384
    metric: ClassVar = "f1"
    per_piece: ClassVar = True

    def __post_init__(self):
        names = "stride", "max_answer_length", "num_candidates"
        given = {name: getattr(self, name) for name in (*names, "no_answer")}
        check_arguments(given, optional=("stride", "no_answer"))
        is_number = isinstance(self.threshold, int | float) and math.isfinite(self.threshold)
        if self.threshold is not None and not is_number:
            raise ValueError(f"threshold={self.threshold!r}: give a number")

    @classmethod
    def of_checkpoint(cls, checkpoint):
        """See `tasks`. Whether it was trained with questions without an answer, no checkpoint says."""
        return cls(no_answer=False)

    def read(self, source, columns):
        """See `squad.read_squad`."""
        names = (columns.get(what) for what in ("text", "pair", "label"))
        return squad.read_squad(source, *names)

    def read_inputs(self, source, columns):
        """The questions and contexts of a file that `read` takes, with their ids, or of two columns of a
        table."""
        if Path(source).name.removesuffix(".gz").endswith((".json", ".jsonl")):
            names = (columns.get(what) for what in ("text", "pair"))
            examples = squad.read_squad(source, *names, wanted=False)
            return squad.Questions([given for given, _ in examples], [target["id"] for _, target in examples])
        return readers.read_pairs(source, columns.get("text", "question"), columns.get("pair", "context"))

    def learn(self, examples):
        """The task, with whether a question may have no answer; a warning counts answers that are not where
        they should be."""
        wrong = [target["id"] for given, target in examples if not self._places(given, target)]
        if wrong:
            warnings.warn(
                f"{len(wrong):,} of {len(examples):,} questions have an answer that is not in the context at "
                f"its answer_start, the first is question {wrong[0]}: they are left out of the training",
                stacklevel=3,
            )
        if len(wrong) == len(examples):
            raise ValueError("no answer is in its context at its answer_start: count characters, from 0")
        if self.no_answer is not None:
            return self
        return dataclasses.replace(self, no_answer=any(not target["answers"] for _, target in examples))

    def describe(self):
        """See `tasks`."""
        return "an answer in the context, or none" if self.no_answer else "an answer in the context"

    def _places(self, given, target):
        return not target["answers"] or squad.is_at_its_place(given[1], target["answers"][0])

    def build(self, encoder, dropout):
        """See `heads.span_classifier`."""
        return span_classifier(encoder)

    def training_model(self, model, preprocessor):
        """From the inputs to the logits of starts and ends as one tensor `(batch, 2, length)`."""
        logits = ops.stack([model.output["start_logits"], model.output["end_logits"]], axis=1)
        is_padding = ops.expand_dims(ops.equal(model.input["input_mask"], 0), 1)  # (batch, 1, length)
        return keras.Model(model.input, ops.where(is_padding, IMPOSSIBLE, logits))

    def compile_options(self):
        """Cross-entropy and accuracy of the starts and the ends."""
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        )
        return {"loss": loss, "weighted_metrics": [keras.metrics.SparseCategoricalAccuracy("accuracy")]}

    def check(self, inputs):
        """The list of pairs of question and context; one alone is a list of one."""
        return readers.check_pairs(inputs)

    def encode(self, preprocessor, inputs):
        """Windows over the contexts; the question stands in each."""
        stride = self._stride(preprocessor)
        features = featuring.encode_windows(preprocessor, inputs, stride)
        return dataclasses.replace(features, kept={"may_start": spans.most_context(features, stride)})

    def _stride(self, preprocessor):
        return self.stride or max(preprocessor.sequence_length // 3, 1)

    def training_targets(self, features, examples, class_weights=None):
        """The first and the last word piece of the answer in each window, int32 `(items, 2)`; 0, which is
        `[CLS]`, if it is not there."""
        targets = np.zeros((len(features), 2), "int32")
        weights = np.ones((len(features), 2), "float32")
        contexts, owners = spans.contexts_of(features), features.examples.tolist()
        for item, example in enumerate(owners):
            given, target = examples[example]
            if not self._places(given, target):
                weights[item] = 0
            elif target["answers"]:
                answer = target["answers"][0]
                starts, ends = (features.places[name][item] for name in ("starts", "ends"))
                is_first, is_last = (
                    example not in owners[item - 1 : item],
                    example not in owners[item + 1 : item + 2],
                )
                targets[item] = _pieces_of(answer, starts, ends, contexts[item], is_first, is_last)
        return targets, weights

    def _ranked(self, outputs, features, inputs):
        """For each example its best spans, `(sum, score, start, end)`, and how much better none is."""
        contexts, may_start = spans.contexts_of(features), features.kept["may_start"]
        found, odds = [[] for _ in inputs], np.full(len(inputs), np.inf)
        for item, example in enumerate(features.examples.tolist()):
            start, end = (np.asarray(outputs[item][f"{name}_logits"], "float32") for name in ("start", "end"))
            odds[example] = min(odds[example], start[0] + end[0])
            total = _log_sum(start) + _log_sum(end)
            starts, ends = (features.places[name][item] for name in ("starts", "ends"))
            best = spans.best_spans(
                start, end, may_start[item], contexts[item], self.max_answer_length, self.num_candidates
            )
            found[example] += [
                (value, float(np.exp(value - total)), int(starts[first]), int(ends[last]))
                for value, first, last in best
            ]
        for candidates in found:
            candidates.sort(key=lambda row: -row[0])
            del candidates[self.num_candidates :]
        odds -= [candidates[0][0] if candidates else 0.0 for candidates in found]
        return found, odds

    def answers(self, outputs, features, inputs):
        """The answer to each question, and the next best.

        Returns:
            list of dicts: `answer`, the text; `score`, from 0 to 1, the probability of its start times that
            of its end in its window; `start` and `end`, the characters of the context; and `candidates`, the
            best answers with the same, the first included. If a question may have no answer, also
            `no_answer_odds`, how much larger the logits are of none than of the best answer; if it is above
            the threshold, the answer is `""`, from 0 to 0, with the score 0.
        """
        found, odds = self._ranked(outputs, features, inputs)
        answers = []
        for (_, context), candidates, odd in zip(inputs, found, odds.tolist(), strict=True):
            rows = [
                {"answer": context[start:end], "score": score, "start": start, "end": end}
                for _, score, start, end in candidates
            ]
            none = {"answer": "", "score": 0.0, "start": 0, "end": 0}
            best = none if not rows or (self.no_answer and odd > (self.threshold or 0.0)) else rows[0]
            answer = {**best, "candidates": rows}
            answers.append({**answer, "no_answer_odds": odd} if self.no_answer else answer)
        return answers

    def collapsed(self, outputs, features):
        """True if every window has its answer at the same word pieces."""
        return len({(int(o["start_logits"].argmax()), int(o["end_logits"].argmax())) for o in outputs}) == 1

    def _best(self, outputs, features, examples):
        inputs = [given for given, _ in examples]
        found, odds = self._ranked(outputs, features, inputs)
        best = [
            context[rows[0][2] : rows[0][3]] if rows else ""
            for (_, context), rows in zip(inputs, found, strict=True)
        ]
        wanted = [[answer["text"] for answer in target["answers"]] for _, target in examples]
        return wanted, best, odds.tolist()

    def tuned(self, outputs, features, examples):
        """The task with the threshold that gives the best F1 on these examples."""
        if not self.no_answer or self.threshold is not None:
            return self
        wanted, best, odds = self._best(outputs, features, examples)
        threshold = metrics.scores(wanted, best, odds)["best_f1_threshold"]
        if threshold == 0.0:  # as the script says if to answer nothing is the best
            threshold = min(odds) - 1.0
        return dataclasses.replace(self, threshold=threshold)

    @property
    def is_tuned(self):
        """See `tasks`."""
        return bool(self.no_answer) and self.threshold is None

    def report(self, outputs, features, examples):
        """How good the answers are.

        Returns:
            dict: `examples`, their number; `exact_match` and `f1`, and with `no_answer` the further figures
            of `metrics.squad.scores`; `loss`, the mean cross-entropy of starts and ends in nats; and
            `wrong`, how many answers have nothing in common with a right one, and `worst_mistakes`, the first
            of them.
        """
        wanted, best, odds = self._best(outputs, features, examples)
        threshold = (self.threshold or 0.0) if self.no_answer else np.inf
        asks_none = self.no_answer or not all(wanted)
        scores = metrics.scores(wanted, best, odds if asks_none else None, threshold)
        given = ["" if odd > threshold else answer for answer, odd in zip(best, odds, strict=True)]
        mistakes = []
        for number, (texts, answer) in enumerate(zip(wanted, given, strict=True)):
            if not metrics.f1(texts or [""], answer) and (texts or answer):
                row = {"row": number + 1, "id": examples[number][1]["id"]}
                mistakes.append(
                    {**row, "question": examples[number][0][0], "wanted": texts, "answer": answer}
                )
        loss = self._loss(outputs, features, examples)
        found = {"examples": len(examples), **scores, "loss": loss, "wrong": len(mistakes)}
        return {**found, "worst_mistakes": mistakes[:WORST]}

    def _loss(self, outputs, features, examples):
        targets, weights = self.training_targets(features, examples)
        losses = np.zeros(targets.shape)
        for item, output in enumerate(outputs):
            for column, name in enumerate(("start_logits", "end_logits")):
                losses[item, column] = _log_sum(output[name]) - output[name][targets[item, column]]
        return float((losses * weights).sum() / max(weights.sum(), 1))

    def predictions(self, outputs, features, examples):
        """What SQuAD's scripts read: `predictions`, a dict from each question's id to its answer, and with
        `no_answer` `null_odds`, from each id to how much better none is than the best answer."""
        answers = self.answers(outputs, features, [given for given, _ in examples])
        rows = [(target["id"], answer) for (_, target), answer in zip(examples, answers, strict=True)]
        found = {"predictions": {name: answer["answer"] for name, answer in rows}}
        if self.no_answer:
            found["null_odds"] = {name: answer["no_answer_odds"] for name, answer in rows}
        return found

    def show(self, report):
        """The report of `report` as lines of text."""
        return reports.answers(report)

    def serve(self, model, preprocessor):
        """What the exported model does: see `signatures.answering`."""
        from keras_bert_app.signatures.answering import answering

        threshold = (self.threshold or 0.0) if self.no_answer else None
        return answering(model, preprocessor, self._stride(preprocessor), self.max_answer_length, threshold)


def _pieces_of(answer, starts, ends, is_context, is_first, is_last):
    """The first and the last word piece of an answer in a window, `(0, 0)` if it is not all there.

    Args:
        answer: dict of `text` and `answer_start`.
        starts, ends: int `(pieces,)`, the characters of each word piece.
        is_context: bool `(pieces,)`.
        is_first, is_last: True if no window of the context comes before, or after.
    """
    begin, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
    context = np.flatnonzero(is_context)
    inside = np.flatnonzero(is_context & (ends > begin) & (starts < end))
    if not len(inside):
        return 0, 0
    first, last = inside[[0, -1]]
    begins_before = not is_first and first == context[0] and starts[first] > begin
    goes_on = not is_last and last == context[-1] and ends[last] < end
    return (0, 0) if begins_before or goes_on else (int(first), int(last))


def _log_sum(logits):
    """The logarithm of the sum of exponentials."""
    most = logits.max()
    return float(most + np.log(np.exp(logits - most).sum()))
