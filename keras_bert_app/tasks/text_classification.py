"""A label for a text or a pair of texts; or any number of labels; or a number."""

import dataclasses
import math
from numbers import Real
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_bert_app.arguments import check_arguments, check_labels
from keras_bert_app.data import features as featuring
from keras_bert_app.data import readers
from keras_bert_app.heads import text_classifier
from keras_bert_app.metrics import classification
from keras_bert_app.reports import classification as reports

SINGLE, MULTI, NUMBER = PROBLEM_TYPES = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)
METRICS = {SINGLE: "accuracy", MULTI: "micro_f1", NUMBER: "spearman"}
REPORTS = {SINGLE: reports.single_label, MULTI: reports.multi_label, NUMBER: reports.regression}
WORST = 20  # mistakes in a report


@dataclasses.dataclass(frozen=True)
class TextClassification:
    """A label for a text or a pair of texts; or any number of labels; or a number.

    An input is a text, or a tuple of two; a target is a name or a whole number, or a list of these, or a
    float.

    Args:
        labels: the labels, in the order of the outputs. Found in the training data if not given.
        problem_type: `"single_label_classification"`, `"multi_label_classification"` or `"regression"`.
            Found in the training data if not given: lists are several labels, numbers of which some are
            not whole regression.
        pairs: True if an input is a pair of texts. Found in the training data.
        stride: None to cut what is too long as the preprocessor does. Otherwise a long text is read in
            windows that begin `stride` word pieces apart; the model is trained with each, an equal share
            of its text, and their logits are averaged. Of a pair the second text is read so. `model.keras`
            alone has no windows: it cuts.
        threshold: the probability from which on one of several labels is given. Found with the validation
            data, where it gives the best micro F1, and otherwise 0.5.
        label_separator: what is between the labels of one text in a file, such as `"|"`.

    Example:

    >>> task = TextClassification().learn([("a great film", "positive"), ("dull", "negative")])
    >>> task.labels
    ['negative', 'positive']
    """

    labels: list | None = None
    problem_type: str | None = None
    pairs: bool = False
    stride: int | None = None
    threshold: float | None = None
    label_separator: str | None = None

    name: ClassVar = "text-classification"
    head: ClassVar = "text_classifier"
    per_piece: ClassVar = False
    sequence_length: ClassVar = 128

    def __post_init__(self):
        if self.problem_type not in (None, *PROBLEM_TYPES):
            raise ValueError(f"problem_type={self.problem_type!r}: one of {', '.join(PROBLEM_TYPES)}")
        check_arguments({"stride": self.stride, "pairs": self.pairs}, optional=("stride",))
        if self.labels is not None:
            if self.problem_type == NUMBER:
                raise ValueError(f"labels={self.labels!r}: regression has none, leave them out")
            object.__setattr__(
                self, "labels", check_labels(self.labels, 1 if self.problem_type == MULTI else 2)
            )
        separator = self.label_separator
        if separator is not None and not (isinstance(separator, str) and separator):
            raise ValueError(f"label_separator={self.label_separator!r}: give what is between labels, a str")
        if self.threshold is not None and not (type(self.threshold) is float and 0 < self.threshold < 1):
            raise ValueError(f"threshold={self.threshold!r}: give a probability between 0 and 1")

    @classmethod
    def of_checkpoint(cls, checkpoint):
        """See `tasks`; of text classifiers and the names that Hugging Face has for what they do.

        Raises:
            ValueError: the labels have no names.
        """
        labels, problem_type = checkpoint.labels, checkpoint.problem_type
        if problem_type is None:  # as in Hugging Face, one output is a number
            problem_type = NUMBER if labels is not None and len(labels) == 1 else SINGLE
        if problem_type == NUMBER:
            return cls(problem_type=NUMBER)
        if labels is None or len(labels) < 2:
            where = checkpoint.tensors.path
            raise ValueError(f"{where} has no names of labels, or fewer than two: {cls.name} needs them")
        unique = [f"{x} {i}" if labels.count(x) > 1 else x for i, x in enumerate(labels)]
        return cls(unique, problem_type)

    @property
    def text_inputs(self):
        """See `tasks`."""
        return ("text", "text_pair") if self.pairs else ("text",)

    @property
    def metric(self):
        """See `tasks`."""
        return METRICS.get(self.problem_type)

    def read(self, source, columns):
        """See `readers.read_labelled`."""
        return readers.read_labelled(
            source,
            columns.get("text", "text"),
            columns.get("label", "label"),
            columns.get("pair", "text_pair" if self.pairs else None),
            self.label_separator,
        )

    def read_inputs(self, source, columns):
        """See `readers.read_texts` and `readers.read_pairs`."""
        text = columns.get("text", "text")
        if self.pairs:
            return readers.read_pairs(source, text, columns.get("pair", "text_pair"))
        return list(readers.read_texts(source, text))

    def learn(self, examples):
        """The task with the labels, sorted, and with what kind of labels and texts these are.

        Raises:
            ValueError: there are fewer than two labels, or they mix names and numbers, or single texts
                pairs.
        """
        pairs = {isinstance(text, tuple) for text, _ in examples}
        if len(pairs) > 1:
            raise ValueError("some of the texts are pairs, others are not: give all with two texts, or none")
        targets = [target for _, target in examples]
        problem_type = self.problem_type or _problem_type(targets)
        task = dataclasses.replace(self, problem_type=problem_type, pairs=pairs.pop())
        task._check_kinds(examples)
        if problem_type == NUMBER or self.labels is not None:
            return task
        return dataclasses.replace(task, labels=task._labels(targets))

    def settled(self):
        """See `tasks`; as in Hugging Face a text has one of the labels, or a number if there are none."""
        kind = self.problem_type or (NUMBER if self.labels is None else SINGLE)
        return dataclasses.replace(self, problem_type=kind)

    def _check_kinds(self, examples):
        """Raises ValueError if a text or a target is of another kind than the task's; it names the row."""
        for number, (text, target) in enumerate(examples, start=1):
            several, wrong = isinstance(target, list | tuple), None
            if isinstance(text, tuple) != self.pairs:
                wrong = "one text, the model takes two: name the column of the second, --pair-column"
                wrong = wrong if self.pairs else "two texts, the model takes one"
            elif self.problem_type == NUMBER and not isinstance(target, float | int):
                wrong = f"the label {target!r}: the model gives numbers"
            elif self.problem_type != NUMBER and several != (self.problem_type == MULTI):
                wanted = "one label" if several else "a list of labels, or give label_separator"
                wrong = f"the label {target!r}: the model takes {wanted}"
            if wrong:
                raise ValueError(f"{readers.place(examples, number)} has {wrong}")

    def describe(self):
        """See `tasks`."""
        if self.problem_type == NUMBER:
            return "a number"
        named = ", ".join(map(str, self.labels[:12])) + (", ..." if len(self.labels) > 12 else "")
        return f"{'one' if self.problem_type == SINGLE else 'any'} of {len(self.labels)} labels: {named}"

    def _labels(self, targets):
        if self.problem_type == MULTI:
            targets = [label for several in targets for label in several]
        labels = set(targets)
        if self.problem_type == SINGLE and len(labels) < 2:
            raise ValueError(f"all labels are {labels.pop()!r}: a classifier needs examples of at least two")
        if not labels:
            raise ValueError("no text has a label: give some that have")
        if len({isinstance(label, str) for label in labels}) > 1:
            raise ValueError(
                f"the labels mix names and numbers: {sorted(map(repr, labels))[:10]}: write them all alike"
            )
        return sorted(labels)

    def build(self, encoder, dropout):
        """See `heads.text_classifier`."""
        return text_classifier(encoder, 1 if self.labels is None else len(self.labels), dropout)

    def training_model(self, model, preprocessor):
        """From the inputs to the logits."""
        return keras.Model(model.input, model.output)

    def compile_options(self):
        """Cross-entropy, or the squared error of numbers, averaged over the weights of the examples."""
        # The windows of a long text, which a batch may be full of, weigh less than as many texts.
        mean = {"reduction": "mean_with_sample_weight" if self.stride is None else "sum_over_batch_size"}
        if self.problem_type == SINGLE:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, **mean)
            return {"loss": loss, "metrics": [keras.metrics.SparseCategoricalAccuracy("accuracy")]}
        if self.problem_type == MULTI:
            return {"loss": keras.losses.BinaryCrossentropy(from_logits=True, **mean)}
        return {"loss": keras.losses.MeanSquaredError(**mean)}

    def check(self, inputs):
        """The list of texts, or of pairs; one alone is a list of one."""
        return readers.check_pairs(inputs) if self.pairs else readers.check_texts(inputs)

    def encode(self, preprocessor, inputs):
        """See `features.encode` and `features.encode_windows`."""
        if self.stride is not None and inputs:
            return featuring.encode_windows(preprocessor, inputs, self.stride)
        return featuring.encode(preprocessor, inputs)

    def training_targets(self, features, examples, class_weights=None):
        """The index of each label, int32; or for each label 1 or 0; or the number, float32.

        Raises:
            ValueError: a label is not one of the task's; the message names it.
        """
        targets = self._encoded(examples)
        weights = None if class_weights is None else self._weights(class_weights, targets)
        if self.stride is not None:
            share = 1 / np.bincount(features.examples)
            weights = (share if weights is None else weights * share)[features.examples]
            weights = (weights / weights.mean()).astype("float32")
        return targets[features.examples], weights

    def _encoded(self, examples):
        self._check_kinds(examples)
        if self.problem_type == NUMBER:
            return np.array([[target] for _, target in examples], "float32")
        # By name, and by number: which of both labels are depends on the others of their file.
        indices = {str(label).strip(): index for index, label in enumerate(self.labels)}
        indices |= {number: index for index, label in enumerate(self.labels) for number in _numbers(label)}
        rows = []
        for number, (_, target) in enumerate(examples, start=1):
            labels = target if self.problem_type == MULTI else [target]
            found = [indices.get(str(label), indices.get(label)) for label in labels]
            if None in found:
                label = labels[found.index(None)]
                known = ", ".join(map(repr, self.labels[:20])) + (", ..." if len(self.labels) > 20 else "")
                raise ValueError(
                    f"{readers.place(examples, number)} has the label {label!r}, which the model does not "
                    f"know: one of {known}"
                )
            rows.append(found if self.problem_type == MULTI else found[0])
        if self.problem_type == SINGLE:
            return np.array(rows, "int32")
        hot = np.zeros((len(rows), len(self.labels)), "float32")
        for row, found in zip(hot, rows, strict=True):
            row[found] = 1
        return hot

    def _weights(self, class_weights, targets):
        """The weight of each example, float32 `(examples,)`."""
        if self.problem_type != SINGLE:
            raise ValueError(
                f"class_weights={class_weights!r} is for one label a text: not for {self.problem_type}"
            )
        if class_weights == "balanced":
            counts = np.bincount(targets, minlength=len(self.labels))
            weights = len(targets) / (len(self.labels) * counts)
        elif isinstance(class_weights, dict) and set(class_weights) == set(self.labels):
            weights = [class_weights[label] for label in self.labels]
            if not all(isinstance(weight, Real) and 0 <= weight < math.inf for weight in weights):
                raise ValueError(f"class_weights={class_weights!r}: give numbers of at least 0")
            weights = np.array(weights)
        else:
            raise ValueError(
                f"class_weights={class_weights!r}: give 'balanced' or a weight for each of {self.labels}"
            )
        return weights.astype("float32")[targets]

    def _pooled(self, outputs, features):
        """Probabilities, or values, of each example: `(examples, labels)`; windows are averaged."""
        width = 1 if self.labels is None else len(self.labels)
        if len(outputs) and np.size(outputs[0]) != width:
            raise ValueError(
                f"the model has {np.size(outputs[0])} outputs, the task {width}: give the model's own labels"
            )
        logits = np.reshape(np.asarray(outputs, "float32"), (-1, width))
        counts = np.bincount(features.examples)
        pooled = np.zeros((len(counts), width), "float32")
        np.add.at(pooled, features.examples, logits)
        pooled /= counts[:, None]
        functions = {SINGLE: ops.softmax, MULTI: ops.sigmoid}
        return np.asarray(ops.convert_to_numpy(functions.get(self.problem_type, lambda x: x)(pooled)))

    def answers(self, outputs, features, inputs):
        """The label of each text with its score, and the scores of all labels.

        Returns:
            list of `{"label": ..., "score": ..., "scores": {label: score}}`; scores are
            probabilities and sum to 1. Of several labels `{"labels": [...], "scores": {...}}`, the
            likeliest first, each score a probability of its own. Of numbers `{"value": ...}`.
        """
        found = []
        for row in self._pooled(outputs, features):
            if self.problem_type == NUMBER:
                found.append({"value": float(row[0])})
                continue
            scores = {str(label): float(score) for label, score in zip(self.labels, row, strict=True)}
            if self.problem_type == MULTI:
                given = [self.labels[i] for i in np.argsort(-row, kind="stable") if row[i] >= self._threshold]
                found.append({"labels": given, "scores": scores})
            else:
                best = int(row.argmax())
                found.append({"label": self.labels[best], "score": float(row[best]), "scores": scores})
        return found

    def collapsed(self, outputs, features):
        """True if every text gets the same labels, or the same number to a thousandth."""
        outputs = np.asarray(outputs, "float32")
        if self.problem_type == NUMBER:
            return float(np.ptp(outputs)) < 1e-3
        if self.problem_type == MULTI:
            return len(np.unique(outputs > np.log(self._threshold / (1 - self._threshold)), axis=0)) == 1
        return len(np.unique(outputs.argmax(axis=1))) == 1

    def report(self, outputs, features, examples):
        """How good the answers are.

        Returns:
            dict: `examples`, their number; `labels`; `worst_mistakes`, the wrong answers given with the
            highest score, or the numbers that are the furthest off; and what
            `metrics.classification.single_label`, `multi_label` or `regression` measures.
        """
        truth, found = self._encoded(examples), self._pooled(outputs, features)
        if self.problem_type == NUMBER:
            scores = classification.regression(truth[:, 0], found[:, 0])
        elif self.problem_type == MULTI:
            scores = classification.multi_label(truth, found, self.labels, self._threshold)
            scores["threshold"] = self._threshold
        else:
            scores = classification.single_label(truth, found, self.labels)
        labels = {} if self.labels is None else {"labels": list(self.labels)}
        worst = self._worst_mistakes(truth, found, examples)
        return {"examples": len(examples), **scores, **labels, "worst_mistakes": worst}

    def _worst_mistakes(self, truth, found, examples):
        if self.problem_type == SINGLE:
            predicted = found.argmax(axis=1)
            badness = np.where(predicted != truth, found[np.arange(len(found)), predicted], 0)
        elif self.problem_type == MULTI:  # the label that is missed or given the most surely
            wrong = (found >= self._threshold) != (truth == 1)
            badness = np.where(wrong, np.abs(found - truth), 0).max(axis=1)
        else:
            badness = np.abs(found - truth)[:, 0]
        mistakes = []
        for row in np.argsort(-badness, kind="stable")[:WORST].tolist():
            if badness[row] <= 0:
                break
            text, label = examples[row]
            mistake = {"row": row + 1, "text": text, "label": label}
            if self.problem_type == SINGLE:
                predicted = int(found[row].argmax())
                mistake |= {"predicted": self.labels[predicted], "score": float(found[row, predicted])}
            elif self.problem_type == MULTI:
                given = np.flatnonzero(found[row] >= self._threshold)
                mistake |= {"predicted": [self.labels[index] for index in given]}
            else:
                mistake |= {"predicted": float(found[row, 0])}
            mistakes.append(mistake)
        return mistakes

    @property
    def _threshold(self):
        return 0.5 if self.threshold is None else self.threshold

    @property
    def is_tuned(self):
        """See `tasks`."""
        return self.problem_type == MULTI and self.threshold is None

    def tuned(self, outputs, features, examples):
        """The task with the threshold that gives the best micro F1 on these examples."""
        truth, found = self._encoded(examples), self._pooled(outputs, features)
        return dataclasses.replace(self, threshold=classification.best_threshold(truth, found))

    def show(self, report):
        """The report of `report` as lines of text."""
        return REPORTS[self.problem_type](report)

    def serve(self, model, preprocessor):
        """What the exported model does: see `signatures.classification`."""
        from keras_bert_app.signatures.classification import classification as signatures

        threshold = self._threshold if self.problem_type == MULTI else None
        return signatures(model, preprocessor, self.text_inputs, self.labels, self.stride, threshold)


def _problem_type(targets):
    """Which problem type these targets are of."""
    if all(isinstance(target, list | tuple) for target in targets):
        return MULTI
    numbers = all(isinstance(target, float | int) for target in targets)
    return NUMBER if numbers and any(isinstance(target, float) for target in targets) else SINGLE


def _numbers(label):
    """What a label is as a number, a list of one, or of none."""
    try:
        return [float(label)]
    except ValueError:
        return []
