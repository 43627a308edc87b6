"""A label for each word: named entities, parts of speech."""

import dataclasses
import warnings
from pathlib import Path
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_bert_app.arguments import check_arguments, check_labels
from keras_bert_app.data import alignment, conll, readers
from keras_bert_app.data import features as featuring
from keras_bert_app.heads import token_classifier
from keras_bert_app.metrics import classification, entities
from keras_bert_app.reports import tagging as reports

WORST = 20  # mistakes in a report


@dataclasses.dataclass(frozen=True)
class TokenClassification:
    """A label for each word: named entities, or tags such as parts of speech.

    An input is a text, or a list of words; a target is a list of tags, one for each word. Tags of entities
    may be IOB1, IOB2, BIOES, BILOU or IO; the model learns IOB2. A word's first word piece gets its label.

    Args:
        labels: the tags, in the order of the outputs. Found in the training data if not given.
        is_entities: True if the tags are those of entities. Found in the training data if not given.
        stride: a text that is longer than the preprocessor's `sequence_length` is read in windows that begin
            so many word pieces apart; each word gets its label in the window that shows the most around it.
            Defaults to half of `sequence_length`. `model.keras` alone has no windows: it cuts.

    Example:

    >>> task = TokenClassification().learn([(["Anna", "Li", "laughs"], ["B-person", "I-person", "O"])])
    >>> task.labels
    ['O', 'B-person', 'I-person']
    """

    labels: list | None = None
    is_entities: bool | None = None
    stride: int | None = None

    name: ClassVar = "token-classification"
    head: ClassVar = "token_classifier"
    per_piece: ClassVar = True
    sequence_length: ClassVar = 128
    # A text has a label for each word, and the first steps less noise; a tenth cost WNUT-17 0.8 points of F1.
    warmup: ClassVar = 0.0
    is_tuned: ClassVar = False

    def __post_init__(self):
        given = {"stride": self.stride, "is_entities": self.is_entities}
        check_arguments(given, optional=tuple(given))
        if self.labels is not None:
            object.__setattr__(self, "labels", check_labels(self.labels))

    text_inputs: ClassVar = ("text",)

    @classmethod
    def of_checkpoint(cls, checkpoint):
        """See `tasks`.

        Raises:
            ValueError: the labels have no names.
        """
        labels = checkpoint.labels
        if labels is None or len(labels) < 2:
            where = checkpoint.tensors.path
            raise ValueError(f"{where} has no names of labels, or fewer than two: {cls.name} needs them")
        return cls(list(labels), all(map(entities.parse, labels)))

    @property
    def metric(self):
        """See `tasks`."""
        return "f1" if self.is_entities else "accuracy"

    def read(self, source, columns):
        """See `conll.read_tagged`; tags of entities become IOB2, and a warning counts those that break their
        scheme."""
        examples = conll.read_tagged(source, columns.get("text"), columns.get("label"))
        scheme, broken = entities.scheme_of([tags for _, tags in examples])
        if broken and self.is_entities is not False:
            sentence, word = broken[0]
            where = f"in the sentence of {examples.where(sentence + 1)}, word {word + 1}"
            first = f"{examples[sentence][1][word]} {where}"
            warnings.warn(
                f"{len(broken):,} tags break the scheme {scheme}, the first is {first}: they are read as "
                "conlleval reads them",
                stacklevel=3,
            )
        if scheme is None or self.is_entities is False:
            return examples
        examples[:] = [(words, entities.to_iob2(tags)) for words, tags in examples]
        return examples

    def read_inputs(self, source, columns):
        """The lines of a `.txt` file, the texts of a `.csv` or `.tsv` table, or of a `.jsonl` file of which
        the key is named; of any other file the words, see `conll.read_words`."""
        name = Path(source).name.removesuffix(".gz")
        if name.endswith((".txt", ".csv", ".tsv")) or (name.endswith(".jsonl") and "text" in columns):
            return list(readers.read_texts(source, columns.get("text", "text")))
        return conll.read_words(source, columns.get("text"))

    def learn(self, examples):
        """The task with the tags of the examples.

        Raises:
            ValueError: there are fewer than two, or those of entities are mixed with others.
        """
        found = {tag for _, tags in examples for tag in tags}
        if len(found) < 2:
            raise ValueError(f"all tags are {found.pop()!r}: give sentences with at least two")
        of_entities = {tag for tag in found if entities.parse(tag)}
        others = sorted(found - of_entities)
        is_entities = not others if self.is_entities is None else self.is_entities
        mixed = self.is_entities is None and bool(of_entities - {entities.OUTSIDE})
        if others and (mixed or self.is_entities):
            raise ValueError(
                f"{', '.join(map(repr, others[:5]))} are no tags of entities, such as 'B-person', but others "
                "are: repair them, or give is_entities=False if none are meant so"
            )
        if self.labels is not None:
            return dataclasses.replace(self, is_entities=is_entities)
        if is_entities:
            types = sorted({kind for _, kind in map(entities.parse, found) if kind})
            labels = [entities.OUTSIDE, *(f"{letter}-{kind}" for kind in types for letter in "BI")]
        else:
            labels = sorted(found)
        return dataclasses.replace(self, labels=labels, is_entities=is_entities)

    def describe(self):
        """See `tasks`."""
        kinds = sorted({(entities.parse(label) or ("", label))[1] for label in self.labels} - {""})
        named = ", ".join(kinds[:12]) + (", ..." if len(kinds) > 12 else "")
        return f"{'entities' if self.is_entities else 'words'} of {len(kinds)} kinds: {named}"

    def _stride(self, preprocessor):
        return self.stride or max(preprocessor.sequence_length // 2, 1)

    def build(self, encoder, dropout):
        """See `heads.token_classifier`."""
        return token_classifier(encoder, len(self.labels), dropout)

    def training_model(self, model, preprocessor):
        """From the inputs to the logits."""
        return keras.Model(model.input, model.output)

    def compile_options(self):
        """Cross-entropy and accuracy of the first pieces of words."""
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        )
        return {"loss": loss, "weighted_metrics": [keras.metrics.SparseCategoricalAccuracy("accuracy")]}

    def check(self, inputs):
        """The list of texts and lists of words; one text alone is a list of one."""
        inputs = [inputs] if isinstance(inputs, str) else list(inputs)
        for index, given in enumerate(inputs):
            if isinstance(given, list | tuple):
                conll.check_words(given, f"text {index}")
            else:
                readers.check_text(given, f"text {index}")
        return [list(given) if isinstance(given, tuple) else given for given in inputs]

    def encode(self, preprocessor, inputs):
        """Windows of the words; `kept` holds the words of each input, and where in its text they are."""
        texts = [given for given in inputs if isinstance(given, str)]
        found = iter(split_texts(texts))
        words = [next(found) if isinstance(given, str) else joined_words(given) for given in inputs]
        features = featuring.encode_windows(
            preprocessor, [one["words"] for one in words], self._stride(preprocessor)
        )
        return dataclasses.replace(features, kept={"words": words, "first": alignment.first_pieces(features)})

    def training_targets(self, features, examples, class_weights=None):
        """The index of the tag of each word at its first piece, int32, and weights that are 0 elsewhere.

        Raises:
            ValueError: a tag is not one of the task's; the message names it.
        """
        if class_weights is not None:
            raise ValueError(f"class_weights={class_weights!r}: not for {self.name}")
        indices = self._indices(examples)
        rows = features.rows["input_word_ids"]
        targets = [np.zeros(len(row), "int32") for row in rows]
        weights = [np.zeros(len(row), "float32") for row in rows]
        first = features.kept["first"]
        for example, word, item, piece in zip(*first.values(), strict=True):
            targets[item][piece] = indices[example][word]
            weights[item][piece] = 1
        return targets, weights

    def _indices(self, examples):
        """The index of each tag of each example, lists of int, in the scheme of the labels."""
        known, found = {label: index for index, label in enumerate(self.labels)}, []
        for number, (_, tags) in enumerate(examples, start=1):
            if self.is_entities and all(map(entities.parse, tags)):
                tags = entities.in_scheme_of(self.labels, tags)
            for word, tag in enumerate(tags, start=1):
                if tag not in known:
                    where = readers.place(examples, number, "sentence")
                    raise ValueError(
                        f"{where}, word {word} has the tag {tag!r}, which the model does not know: "
                        f"one of {', '.join(self.labels)}"
                    )
            found.append([known[tag] for tag in tags])
        return found

    def _probabilities(self, outputs, features):
        """For each example the probabilities of its words, list of float32 `(words, labels)`.

        A word without word pieces is surely outside of entities, or has the first tag.
        """
        nothing = np.zeros(len(self.labels), "float32")
        nothing[entities.outside(self.labels)] = 1
        found = [np.tile(nothing, (len(one["words"]), 1)) for one in features.kept["words"]]
        first = features.kept["first"]
        logits = [outputs[item][piece] for item, piece in zip(first["item"], first["piece"], strict=True)]
        if logits:
            shares = np.asarray(ops.convert_to_numpy(ops.softmax(np.asarray(logits, "float32"))))
            for example, word, row in zip(first["example"], first["word"], shares, strict=True):
                found[example][word] = row
        return found

    def _tags(self, probabilities):
        return [[self.labels[index] for index in rows.argmax(axis=1)] for rows in probabilities]

    def answers(self, outputs, features, inputs):
        """The entities of each text, or the tag of each word.

        Returns:
            For each text a dict with a list `entities` of `{"text", "label", "score", "start", "end"}`, or,
            if the tags are not of entities, a list `words` of the same. `start` and `end` are characters:
            `text[start:end]`, for a list of words of the words joined with spaces. `score` is the
            probability of the tag, of entities the mean of their words'.
        """
        probabilities = self._probabilities(outputs, features)
        answers = []
        rows_and_tags = zip(probabilities, self._tags(probabilities), strict=True)
        for given, one, (rows, tags) in zip(inputs, features.kept["words"], rows_and_tags, strict=True):
            text = given if isinstance(given, str) else " ".join(given)
            spans = [(word, word + 1, tag) for word, tag in enumerate(tags)]
            if self.is_entities:
                spans = entities.find_entities(tags)
            best, found = rows.max(axis=1), []
            for begin, end, label in spans:
                start, stop = int(one["starts"][begin]), int(one["ends"][end - 1])
                score = float(best[begin:end].mean())
                row = {"text": text[start:stop], "label": label, "score": score, "start": start, "end": stop}
                found.append(row)
            answers.append({"entities" if self.is_entities else "words": found})
        return answers

    def collapsed(self, outputs, features):
        """True if every word gets the same tag."""
        return len({tag for tags in self._tags(self._probabilities(outputs, features)) for tag in tags}) == 1

    def report(self, outputs, features, examples):
        """How good the tags are.

        Returns:
            dict: `examples` and `words`, their numbers; `accuracy` of all words; `loss`, the mean
            cross-entropy in nats; and for entities what `metrics.entities.scores` measures, with
            `worst_mistakes`, the entities that are missed or invented with the highest score; for other tags
            `per_class` and `confusion_matrix`, see `metrics.classification.single_label`.
        """
        probabilities = self._probabilities(outputs, features)
        truth = [tags for _, tags in examples]
        wanted = np.concatenate(self._indices(examples))
        joined = np.concatenate(probabilities)
        single = classification.single_label(wanted, joined, self.labels)
        report = {"examples": len(examples), "words": len(wanted), "loss": single["loss"]}
        if not self.is_entities:
            return {**report, **single, "labels": list(self.labels)}
        predicted = self._tags(probabilities)
        report |= {"accuracy": single["accuracy"], **entities.scores(truth, predicted)}
        report["worst_mistakes"] = _worst_mistakes(examples, predicted, probabilities)
        return report

    def show(self, report):
        """The report of `report` as lines of text."""
        return reports.entities(report) if self.is_entities else reports.tags(report)

    def serve(self, model, preprocessor):
        """What the exported model does: see `signatures.tagging`."""
        from keras_bert_app.signatures.tagging import tagging

        return tagging(model, preprocessor, self.labels, self.is_entities, self._stride(preprocessor))


def split_texts(texts):
    """The words of texts, a dict for each: `words`, list of str, `starts` and `ends`, lists of int."""
    if not texts:
        return []
    from keras_bert_app.preprocessing.words import split_words

    found = {name: ragged.to_list() for name, ragged in split_words(texts).items()}
    found["words"] = [[word.decode() for word in words] for words in found["words"]]
    return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]


def joined_words(words):
    """The same for a list of words, in the text that they are with spaces between them."""
    ends = np.cumsum([len(word) + 1 for word in words], dtype=int) - 1
    return {
        "words": words,
        "starts": [int(e) - len(w) for e, w in zip(ends, words, strict=True)],
        "ends": ends.tolist(),
    }


def _worst_mistakes(examples, predicted, probabilities):
    """Entities that are wrong, given or missed the most surely."""
    mistakes = []
    for number, ((words, tags), found, rows) in enumerate(
        zip(examples, predicted, probabilities, strict=True), start=1
    ):
        wanted, given = set(entities.find_entities(tags)), set(entities.find_entities(found))
        for begin, end, kind in wanted ^ given:
            mistake = {"row": number, "text": " ".join(words[begin:end]), "words": [begin, end]}
            kinds = (kind, None) if (begin, end, kind) in wanted else (None, kind)
            mistake |= dict(zip(("label", "predicted"), kinds, strict=True))
            mistakes.append({**mistake, "score": float(rows[begin:end].max(axis=1).mean())})
    return sorted(mistakes, key=lambda row: -row["score"])[:WORST]
