"""A vector for each text, and how alike two texts are."""

import dataclasses
import math
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_bert_app.arguments import check_arguments
from keras_bert_app.checkpoints import sentence_transformers
from keras_bert_app.data import features as featuring
from keras_bert_app.data import readers
from keras_bert_app.heads import POOLINGS, sentence_encoder
from keras_bert_app.losses import in_batch_negatives
from keras_bert_app.metrics import classification, retrieval
from keras_bert_app.reports import similarity as reports

COSINE, NEGATIVES = OBJECTIVES = ("cosine", "in_batch_negatives")
WORST = 20  # mistakes in a report


@dataclasses.dataclass(frozen=True)
class SentenceSimilarity:
    """A vector for each text, and how alike two texts are: the cosine of their vectors.

    An input is a pair of texts, or one text; a target is a number that says how alike the pair is. With
    `objective="in_batch_negatives"` an example is a pair that belongs together, such as a question and its
    answer, and has no target.

    Args:
        pooling: see `sentence_encoder`. Defaults to that of the model if it is of sentence-transformers, and
            otherwise to `"mean"`.
        normalize: True for vectors of length 1. Defaults as `pooling`, otherwise to True.
        objective: `"cosine"`, the cosine shall be the number; or `"in_batch_negatives"`, the cosine shall be
            larger than that with the second texts of the other pairs of the batch. Give large batches to
            that: each has `batch_size - 1` wrong texts for a right one.
        score_range: the numbers that a cosine of 0 and of 1 stand for. Found in the training data: 0 and the
            largest if none is negative, and otherwise the numbers are cosines.
        scale: of the cosines before the softmax of `"in_batch_negatives"`.

    Example:

    >>> task = SentenceSimilarity().learn([(("a cat", "a dog"), 2.5), (("a cat", "a cat"), 5)])
    >>> task.score_range
    [0.0, 5.0]

    Reference: [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084).
    """

    pooling: str | None = None
    normalize: bool | None = None
    objective: str = COSINE
    score_range: list | None = None
    scale: float = 20.0

    name: ClassVar = "sentence-similarity"
    head: ClassVar = None
    fixed: ClassVar = ("pooling", "normalize")
    text_inputs: ClassVar = ("text", "text_pair")
    model_inputs: ClassVar = ("text",)
    output_name: ClassVar = "embedding"
    per_piece: ClassVar = False
    sequence_length: ClassVar = 128
    is_tuned: ClassVar = False

    def __post_init__(self):
        for name, known in (("pooling", (None, *POOLINGS)), ("objective", OBJECTIVES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: one of {', '.join(filter(None, known))}")
        given = {"scale": self.scale, "normalize": self.normalize}
        check_arguments(given, optional=("normalize",))
        if self.score_range is not None:
            given = self.score_range
            numbers = isinstance(given, list | tuple) and all(type(n) in (int, float) for n in given)
            if not numbers or len(given) != 2 or not -math.inf < given[0] < given[1] < math.inf:
                raise ValueError(f"score_range={given!r}: give two numbers, the smaller first")

    @classmethod
    def of_checkpoint(cls, checkpoint):
        """See `tasks`; of a model of sentence-transformers with its pooling."""
        return cls().started(checkpoint)

    def started(self, checkpoint):
        """The task with the pooling of the checkpoint, where none is given."""
        said = checkpoint.sentence_encoder or sentence_transformers.pooling(checkpoint.tensors.path.parent)
        said = {"pooling": "mean", "normalize": True} | said
        given = {name: value for name, value in said.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **given)

    @property
    def least_batch(self):
        """See `tasks`; alone in a batch, a pair has no wrong answer."""
        return 1 if self.objective == COSINE else 2

    @property
    def metric(self):
        """See `tasks`."""
        return "spearman" if self.objective == COSINE else "mean_reciprocal_rank"

    def read(self, source, columns):
        """See `readers.read_labelled`; for `"in_batch_negatives"` pairs without a label."""
        text, pair = columns.get("text", "text"), columns.get("pair", "text_pair")
        if self.objective == COSINE:
            return readers.read_labelled(source, text, columns.get("label", "label"), pair)
        if isinstance(source, readers.PATHS):
            return [(given, None) for given in readers.read_pairs(source, text, pair)]
        source = list(source)
        for number, row in enumerate(source, start=1):
            if isinstance(row, tuple | list) and row and isinstance(row[0], tuple | list):
                raise ValueError(f"row {number} is {row!r:.80}: {NEGATIVES} takes pairs alone, no scores")
        return [(given, None) for given in readers.check_pairs(source)]

    def read_inputs(self, source, columns):
        """See `readers.read_pairs`."""
        return readers.read_pairs(source, columns.get("text", "text"), columns.get("pair", "text_pair"))

    def learn(self, examples):
        """The task with the range of the scores.

        Raises:
            ValueError: a score is no number, or they are no cosines and some are negative.
        """
        if self.objective == NEGATIVES or self.score_range is not None:
            return self
        scores = self._scores(examples)
        low, high = float(scores.min()), float(scores.max())
        if low < 0 and not -1 <= low <= high <= 1:
            raise ValueError(
                f"the scores go from {low:g} to {high:g}: give score_range=[A, B] with the scores of texts "
                "that have nothing in common and that say the same"
            )
        if high <= 0:
            raise ValueError(f"no score is above {high:g}: give some pairs that are alike")
        return dataclasses.replace(self, score_range=[0.0, 1.0 if low < 0 else max(high, 1.0)])

    def _scores(self, examples):
        """The target of each example, float64 `(examples,)`."""
        for number, (given, score) in enumerate(examples, start=1):
            if not isinstance(given, tuple):
                raise ValueError(
                    f"{readers.place(examples, number)} has one text: give two, name the column of the "
                    "second, --pair-column"
                )
            try:
                finite = math.isfinite(float(score))
            except (TypeError, ValueError):
                finite = False
            if not finite:
                raise ValueError(f"{readers.place(examples, number)} has the score {score!r}: give a number")
        return np.array([float(score) for _, score in examples], "float64")

    def describe(self):
        """See `tasks`."""
        if self.objective == NEGATIVES:
            return "the second text of a pair is closer to its first than those of other pairs"
        return f"the cosine of two texts, 0 for {self.score_range[0]:g} and 1 for {self.score_range[1]:g}"

    def build(self, encoder, dropout):
        """See `heads.sentence_encoder`; there is no dropout but the encoder's."""
        normalize = True if self.normalize is None else self.normalize
        return sentence_encoder(encoder, self.pooling or "mean", normalize)

    def training_model(self, model, preprocessor):
        """From the inputs of pairs to their cosines `(pairs, 1)` or their vectors `(pairs, 2, hidden)`."""
        vectors = ops.reshape(ops.normalize(model.output), (-1, 2, model.output.shape[-1]))
        if self.objective == COSINE:
            vectors = ops.sum(vectors[:, 0] * vectors[:, 1], axis=1, keepdims=True)
        return keras.Model(model.input, vectors)

    def compile_options(self):
        """The squared error of the cosines, or the cross-entropy of the right text among those of a batch."""
        return {"loss": "mean_squared_error" if self.objective == COSINE else in_batch_negatives(self.scale)}

    def check(self, inputs):
        """The list of pairs, or of texts; one alone is a list of one."""
        if isinstance(inputs, str):
            return readers.check_texts(inputs)
        inputs = inputs if isinstance(inputs, tuple) else list(inputs)
        single = [isinstance(given, str) for given in inputs]
        if isinstance(inputs, list) and single and all(single):
            return readers.check_texts(inputs)
        return readers.check_pairs(inputs)

    def encode(self, preprocessor, inputs):
        """See `features.encode`; a pair has two rows."""
        if not inputs or isinstance(inputs[0], str):
            return featuring.encode(preprocessor, inputs)
        features = featuring.encode(preprocessor, [text for given in inputs for text in given])
        return dataclasses.replace(features, examples=features.examples // 2, group=2)

    def training_targets(self, features, examples, class_weights=None):
        """The cosine of each pair, float32 `(pairs, 1)`; or, the same for the same text, a number for each
        text, int32 `(pairs, 2)`."""
        if self.objective == COSINE:
            return self._cosines(examples).astype("float32")[:, None], None
        numbers = {}
        found = [[numbers.setdefault(text, len(numbers)) for text in given] for given, _ in examples]
        return np.array(found, "int32"), None

    def _cosines(self, examples):
        """The scores as cosines, float64 `(examples,)`."""
        scores = self._scores(examples)
        low, high = self.score_range or self.learn(examples).score_range
        return (scores - low) / (high - low)

    def _pairs(self, outputs):
        """The vectors of length 1 of the first and the second texts, float32 `(pairs, hidden)`."""
        vectors = np.asarray(ops.convert_to_numpy(ops.normalize(np.asarray(outputs, "float32"))))
        return vectors[::2], vectors[1::2]

    def answers(self, outputs, features, inputs):
        """How alike the texts of each pair are, or the vector of each text.

        Returns:
            list of `{"similarity": ...}`, the cosine, from -1 to 1, mostly above 0; of single texts
            `{"embedding": [...]}`, a list of floats. `kba.embed` gives an array instead.
        """
        if features.group == 1:
            return [{"embedding": vector.tolist()} for vector in outputs]
        first, second = self._pairs(outputs)
        return [{"similarity": value} for value in (first * second).sum(axis=1).tolist()]

    def collapsed(self, outputs, features):
        """True if every text has the same vector."""
        return float(np.ptp(np.asarray(outputs), axis=0).max()) < 1e-3

    def report(self, outputs, features, examples):
        """How good the vectors are.

        Returns:
            dict: `examples`, their number, and for `"cosine"` `pearson` and `spearman`, the correlations of
            the cosines and the scores, and `loss`, the mean squared error; for `"in_batch_negatives"` what
            `metrics.retrieval` measures among the second texts of all examples. `worst_mistakes` are the
            pairs that are the furthest off.
        """
        first, second = self._pairs(outputs)
        found = (first * second).sum(axis=1)
        if self.objective == COSINE:
            wanted = self._cosines(examples)
            scores = classification.regression(wanted, found)
            del scores["mean_absolute_error"]  # cosines mean what they mean by their order
            badness = np.abs(wanted - found)
            shown = [("score", self._scores(examples).tolist()), ("similarity", found.tolist())]
        else:
            texts = self.training_targets(features, examples)[0]
            scores = retrieval.retrieval(first, second, texts, self.scale)
            badness = scores.pop("ranks") - 1
            shown = [("rank", (badness + 1).tolist()), ("similarity", found.tolist())]
        mistakes = [
            {"row": row + 1, "text": examples[row][0], **{name: values[row] for name, values in shown}}
            for row in np.argsort(-badness, kind="stable")[:WORST].tolist()
            if badness[row] > 0
        ]
        return {"examples": len(examples), **scores, "worst_mistakes": mistakes}

    def show(self, report):
        """The report of `report` as lines of text."""
        return reports.similarity(report)

    def serve(self, model, preprocessor):
        """What the exported model does: see `signatures.similarity`."""
        from keras_bert_app.signatures.similarity import similarity as signatures

        return signatures(model, preprocessor)
