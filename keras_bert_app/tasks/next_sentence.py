"""Whether a text follows another."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_bert_app.data import features as featuring
from keras_bert_app.data import readers
from keras_bert_app.heads import pretrained_head, pretrainer
from keras_bert_app.metrics import classification
from keras_bert_app.reports import classification as reports

COLUMNS, DEFAULTS = ("text", "pair", "label"), ("text", "text_pair", "label")
LABELS = ("is_next", "not_next")  # in the order of BERT's logits
NAMES = {"is_next": 0, "true": 0, "1": 0, "1.0": 0, "not_next": 1, "false": 1, "0": 1, "0.0": 1}
WORST = 20  # mistakes in a report


@dataclasses.dataclass(frozen=True)
class NextSentence:
    """Tells whether a text follows another, with the head that BERT was pretrained with.

    An input is a pair of texts; a target is True if the second follows the first. In a file it is `1` or `0`,
    `true` or `false`, `is_next` or `not_next`.

    Example:

    >>> NextSentence().read([(("He opened the door.", "Then he went in."), True)], {})
    [(('He opened the door.', 'Then he went in.'), True)]

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3.1.
    """

    name: ClassVar = "next-sentence"
    head: ClassVar = "next_sentence"
    by_name: ClassVar = True
    text_inputs: ClassVar = ("text", "text_pair")
    metric: ClassVar = "accuracy"
    per_piece: ClassVar = False
    sequence_length: ClassVar = 128
    is_tuned: ClassVar = False

    @classmethod
    def of_checkpoint(cls, checkpoint):
        """See `tasks`."""
        return cls()

    def read(self, source, columns):
        """Pairs with their labels, from the columns of a table or from an iterable."""
        where = source if isinstance(source, readers.PATHS) else "the data"
        names = [columns.get(what, name) for what, name in zip(COLUMNS, DEFAULTS, strict=True)]
        if isinstance(source, readers.PATHS):
            table = readers.read_rows(Path(source), *names)
            source = [((row[names[0]], row[names[1]]), row[names[2]]) for row in table]
        # To `check_labelled` True is no label.
        rows = [(*row[:-1], str(row[-1])) if isinstance(row, tuple | list) and row else row for row in source]
        rows = readers.check_labelled(rows, where)
        examples = []
        for number, (given, label) in enumerate(rows, start=1):
            name = str(label).lower()
            if not isinstance(given, tuple) or name not in NAMES:
                raise ValueError(
                    f"{where}, row {number} is {given!r:.60} with {label!r}: give two texts, and 1 if the "
                    "second follows the first, or else 0"
                )
            examples.append((given, NAMES[name] == 0))
        return examples

    def read_inputs(self, source, columns):
        """See `readers.read_pairs`."""
        return readers.read_pairs(source, columns.get("text", "text"), columns.get("pair", "text_pair"))

    def learn(self, examples):
        """The task as it is."""
        return self

    def describe(self):
        """See `tasks`."""
        return "whether a text follows another"

    def build(self, encoder, dropout):
        """See `heads.pretrainer`, of which it is the next sentence head."""
        return self.pretrained(pretrainer(encoder, [self.head]))

    def pretrained(self, model):
        """The next sentence head of a `pretrainer`: one output, `(batch, 2)`."""
        return pretrained_head(model, self.head)

    def training_model(self, model, preprocessor):
        """From the inputs to the logits."""
        return keras.Model(model.input, model.output)

    def compile_options(self):
        """Cross-entropy and accuracy."""
        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "metrics": [keras.metrics.SparseCategoricalAccuracy("accuracy")],
        }

    def check(self, inputs):
        """The list of pairs; one alone is a list of one."""
        return readers.check_pairs(inputs)

    def encode(self, preprocessor, inputs):
        """See `features.encode`."""
        return featuring.encode(preprocessor, inputs)

    def training_targets(self, features, examples, class_weights=None):
        """0 if the second text follows, as in BERT, and 1 if not, int32 `(examples,)`."""
        return np.array([0 if follows else 1 for _, follows in examples], "int32"), None

    def _probabilities(self, outputs):
        """Float32 `(examples, 2)`."""
        logits = np.reshape(np.asarray(outputs, "float32"), (-1, 2))
        return np.asarray(ops.convert_to_numpy(ops.softmax(logits)))

    def answers(self, outputs, features, inputs):
        """Whether each second text follows the first.

        Returns:
            list of `{"is_next": ..., "score": ...}`. `score` is the probability that the second text follows
            the first where that was taken from, from 0 to 1; `is_next` is True if it is 0.5 or more.
        """
        scores = self._probabilities(outputs)[:, 0].tolist()
        return [{"is_next": score >= 0.5, "score": score} for score in scores]

    def collapsed(self, outputs, features):
        """True if every pair gets the same answer."""
        return len(set(self._probabilities(outputs).argmax(axis=1).tolist())) == 1

    def report(self, outputs, features, examples):
        """How good the answers are.

        Returns:
            dict: `examples`, their number; `labels`; what `metrics.classification.single_label` measures; and
            `worst_mistakes`, the wrong answers with the highest score.
        """
        found, truth = self._probabilities(outputs), self.training_targets(features, examples)[0]
        predicted, mistakes = found.argmax(axis=1), []
        for row in np.flatnonzero(predicted != truth).tolist():
            labels = {"label": LABELS[truth[row]], "predicted": LABELS[predicted[row]]}
            score = float(found[row, predicted[row]])
            mistakes.append({"row": row + 1, "text": examples[row][0], **labels, "score": score})
        scores = classification.single_label(truth, found, LABELS)
        worst = sorted(mistakes, key=lambda row: -row["score"])[:WORST]
        return {"examples": len(examples), **scores, "labels": list(LABELS), "worst_mistakes": worst}

    def show(self, report):
        """The report of `report` as lines of text."""
        return reports.single_label(report)

    def serve(self, model, preprocessor):
        """A function of `text` and `text_pair`, string `(batch,)`, that returns `score`, float32 `(batch,)`,
        the probability that the second follows the first, and `is_next`, bool `(batch,)`."""
        import tensorflow as tf

        def serving_default(text, text_pair):
            score = tf.nn.softmax(model(preprocessor((text, text_pair)), training=False))[:, 0]
            return {"is_next": score >= 0.5, "score": score}

        signature = [tf.TensorSpec([None], tf.string, name=name) for name in self.text_inputs]
        return {"serving_default": (serving_default, signature)}
