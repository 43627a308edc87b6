"""Which of several choices fits a text: continuations of a story, answers to a question."""

import dataclasses
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_bert_app.arguments import check_arguments
from keras_bert_app.data import choices, readers
from keras_bert_app.data import features as featuring
from keras_bert_app.heads import text_classifier
from keras_bert_app.reports import classification as reports

WORST = 20  # mistakes in a report


@dataclasses.dataclass(frozen=True)
class MultipleChoice:
    """Which of several choices fits a text.

    An input is `(text, [choice, choice, ...])`; a target is the index of the right choice. BERT reads the
    text with each choice as a pair and gives each a number; a model can be asked about any number of choices.

    Args:
        num_choices: choices of each training example. Found in the training data.

    Example:

    >>> MultipleChoice().learn([(("A cat sleeps.", ["It barks.", "It purrs."]), 1)]).num_choices
    2

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 4.4.
    """

    num_choices: int | None = None

    fixed: ClassVar = ("num_choices",)
    name: ClassVar = "multiple-choice"
    head: ClassVar = "text_classifier"
    by_name: ClassVar = True
    text_inputs: ClassVar = ("text", "choices")
    model_inputs: ClassVar = ("text", "text_pair")
    metric: ClassVar = "accuracy"
    per_piece: ClassVar = False
    sequence_length: ClassVar = 128
    is_tuned: ClassVar = False

    def __post_init__(self):
        check_arguments({"num_choices": self.num_choices}, optional=("num_choices",))

    @classmethod
    def of_checkpoint(cls, checkpoint):
        """See `tasks`.

        Raises:
            ValueError: the model gives more than one number for a text.
        """
        labels = checkpoint.labels
        if labels is not None and len(labels) != 1:
            where = checkpoint.tensors.path
            raise ValueError(f"{where} gives {len(labels)} numbers for a text, a model of {cls.name} one")
        return cls()

    def read(self, source, columns):
        """See `choices.read_choices`."""
        text, begin = columns.get("text"), columns.get("pair")
        return choices.read_choices(source, text, begin, columns.get("label", "label"))

    def read_inputs(self, source, columns):
        """See `choices.read_choices`."""
        found = choices.read_choices(source, columns.get("text"), columns.get("pair"), wanted=False)
        return [given for given, _ in found]

    def from_texts(self, texts):
        """The first text with the others as its choices."""
        if len(texts) < 3:
            raise ValueError(f"give a text and at least two choices, {len(texts)} texts are given, or --file")
        return [(texts[0], list(texts[1:]))]

    def learn(self, examples):
        """The task with the number of choices.

        Raises:
            ValueError: the examples have different numbers of choices.
        """
        number = self.num_choices or len(examples[0][0][1])
        for row, ((_, others), _) in enumerate(examples, start=1):
            if len(others) != number:
                raise ValueError(
                    f"{readers.place(examples, row)} has {len(others)} choices, not {number}: give all of "
                    "the training equally many"
                )
        return dataclasses.replace(self, num_choices=number)

    def describe(self):
        """See `tasks`."""
        return f"one of {self.num_choices} choices"

    def build(self, encoder, dropout):
        """See `heads.text_classifier`: one number for the text with a choice."""
        return text_classifier(encoder, 1, dropout)

    def training_model(self, model, preprocessor):
        """From the inputs of all choices of the examples to logits `(examples, choices)`."""
        return keras.Model(model.input, ops.reshape(model.output, (-1, self.num_choices)))

    def compile_options(self):
        """Cross-entropy and accuracy of the right choice."""
        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "metrics": [keras.metrics.SparseCategoricalAccuracy("accuracy")],
        }

    def check(self, inputs):
        """The list of texts with their choices; one alone is a list of one."""
        alone = isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[0], str)
        inputs = [inputs] if alone else list(inputs)
        return [choices.check_input(given, f"input {index}") for index, given in enumerate(inputs)]

    def encode(self, preprocessor, inputs):
        """A row for each choice, the text first."""
        rows = [(text, choice) for text, some in inputs for choice in some]
        numbers = [len(some) for _, some in inputs]
        features = featuring.encode(preprocessor, rows)
        examples = np.repeat(np.arange(len(inputs)), numbers)
        group = numbers[0] if len(set(numbers)) == 1 else 1
        return dataclasses.replace(features, examples=examples, group=group)

    def training_targets(self, features, examples, class_weights=None):
        """The index of the right choice of each example, int32 `(examples,)`."""
        return np.array([label for _, label in examples], "int32"), None

    def _probabilities(self, outputs, features):
        """For each example those of its choices, list of float32 `(choices,)`."""
        logits = np.asarray(outputs, "float32").reshape(-1)
        parts = np.split(logits, np.cumsum(np.bincount(features.examples))[:-1]) if len(logits) else []
        return [np.asarray(ops.convert_to_numpy(ops.softmax(part))) for part in parts]

    def answers(self, outputs, features, inputs):
        """The choice that fits each text best.

        Returns:
            list of dicts: `choice`, the text of it; `index`, its place; `score`, its probability; and
            `scores`, those of all choices, which sum to 1.
        """
        answers = []
        for (_, some), row in zip(inputs, self._probabilities(outputs, features), strict=True):
            index = int(row.argmax())
            found = {"choice": some[index], "index": index, "score": float(row[index])}
            answers.append({**found, "scores": row.tolist()})
        return answers

    def collapsed(self, outputs, features):
        """True if every choice gets the same number, to a thousandth."""
        return float(np.ptp(np.asarray(outputs, "float32"))) < 1e-3

    def report(self, outputs, features, examples):
        """How good the choices are.

        Returns:
            dict: `examples`, their number; `accuracy`; `loss`, the mean cross-entropy in nats; and
            `worst_mistakes`, the wrong choices with the highest score.
        """
        found, mistakes, losses = self._probabilities(outputs, features), [], []
        for number, (((text, some), label), row) in enumerate(zip(examples, found, strict=True), start=1):
            index = int(row.argmax())
            losses.append(-np.log(max(float(row[label]), 1e-30)))
            if index != label:
                mistake = {"row": number, "text": text, "label": some[label], "predicted": some[index]}
                mistakes.append({**mistake, "score": float(row[index])})
        return {
            "examples": len(examples),
            "accuracy": 1 - len(mistakes) / len(examples),
            "loss": float(np.mean(losses)),
            "worst_mistakes": sorted(mistakes, key=lambda row: -row["score"])[:WORST],
        }

    def show(self, report):
        """The report of `report` as lines of text."""
        first = f"accuracy {report['accuracy']:.4f} on {report['examples']:,} examples"
        return "\n".join([first, *reports.mistakes(report)])

    def serve(self, model, preprocessor):
        """What the exported model does: see `signatures.choosing`."""
        from keras_bert_app.signatures.choosing import choosing

        return choosing(model, preprocessor)
