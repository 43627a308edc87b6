"""One label for a text."""

import keras
import numpy as np
from keras import ops

from keras_bert_app.data import readers
from keras_bert_app.heads import text_classifier

METRIC = "accuracy"
WORST = 20  # mistakes in a report
WIDEST = 12  # labels of a confusion matrix that is shown

read = readers.read_labelled


def find_labels(examples):
    """The distinct labels, sorted.

    Raises:
        ValueError: there are fewer than two, or they mix names and numbers.
    """
    labels = {label for _, label in examples}
    if len(labels) < 2:
        raise ValueError(f"all labels are {labels.pop()!r}: a classifier needs examples of at least two")
    if len({type(label) for label in labels}) > 1:
        raise ValueError(
            f"the labels mix names and numbers: {sorted(map(repr, labels))[:10]}: write them all alike"
        )
    return sorted(labels)


def encode_labels(examples, labels):
    """The index of each example's label, int32 `(examples,)`.

    Raises:
        ValueError: a label is not among `labels`; the message names it.
    """
    # By name: whether "1" is a number depends on the other labels of its file.
    indices = {str(label): index for index, label in enumerate(labels)}
    for number, (_, label) in enumerate(examples, start=1):
        if str(label) not in indices:
            known = ", ".join(map(repr, labels[:20])) + (", ..." if len(labels) > 20 else "")
            raise ValueError(
                f"row {number} has the label {label!r}, which the model does not know: one of {known}"
            )
    return np.array([indices[str(label)] for _, label in examples], "int32")


def build(encoder, labels, dropout):
    """See `heads.text_classifier`."""
    return text_classifier(encoder, len(labels), dropout)


def loss():
    """Cross-entropy, averaged over the weights of the examples."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")


def answers(outputs, labels):
    """The label of each text with its score, and the scores of all labels.

    Args:
        outputs: logits `(texts, num_classes)`.
        labels: the label of each column.

    Returns:
        list of `{"label": ..., "score": ..., "scores": {label: score}}`; scores are
        probabilities and sum to 1.
    """
    found = []
    for row in _softmax(outputs):
        best = int(row.argmax())
        scores = {str(label): float(score) for label, score in zip(labels, row, strict=True)}
        found.append({"label": labels[best], "score": float(row[best]), "scores": scores})
    return found


def collapsed(outputs):
    """True if every text gets the same label."""
    return len(np.unique(np.argmax(outputs, axis=1))) == 1


def report(examples, outputs, labels):
    """How good the answers are.

    Args:
        examples: list of `(text, label)`.
        outputs: logits `(examples, num_classes)`.
        labels: the label of each column.

    Returns:
        dict: `examples`, their number; `accuracy`; `loss`, the mean cross-entropy in nats;
        `labels`; `per_class`, for each label its `precision`, `recall`, `f1` and `support`;
        `confusion_matrix`, a row for each true and a column for each predicted label;
        `worst_mistakes`, the wrong answers given with the highest score.
    """
    truth = encode_labels(examples, labels)
    probabilities = _softmax(outputs)
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (truth, predicted), 1)
    right = np.diag(confusion)
    precision = right / np.maximum(confusion.sum(axis=0), 1)
    recall = right / np.maximum(confusion.sum(axis=1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    rows = np.arange(len(truth))
    wrong = np.flatnonzero(predicted != truth)
    wrong = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:WORST]
    return {
        "examples": len(truth),
        "accuracy": float(right.sum() / len(truth)),
        "loss": float(-np.log(np.maximum(probabilities[rows, truth], 1e-30)).mean()),
        "labels": list(labels),
        "per_class": {
            str(label): {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(confusion[i].sum()),
            }
            for i, label in enumerate(labels)
        },
        "confusion_matrix": confusion.tolist(),
        "worst_mistakes": [
            {
                "row": int(i) + 1,
                "text": examples[i][0],
                "label": examples[i][1],
                "predicted": labels[predicted[i]],
                "score": float(probabilities[i, predicted[i]]),
            }
            for i in wrong
        ],
    }


def show(report):
    """The report of `report` as lines of text."""
    width = max(len(str(label)) for label in report["labels"]) + 2
    lines = [f"accuracy {report['accuracy']:.4f} on {report['examples']:,} examples", ""]
    lines.append(" " * width + "precision  recall      f1  support")
    for label, row in report["per_class"].items():
        shares = f"{row['precision']:9.4f} {row['recall']:7.4f} {row['f1']:7.4f}"
        lines.append(f"{label:{width}}{shares} {row['support']:8,}")
    if len(report["labels"]) > WIDEST:
        lines += ["", f"confusion matrix of {len(report['labels'])} labels: too wide to show, see --json"]
        return "\n".join(lines + _show_mistakes(report))
    width = max(width, len(f"{report['examples']:,}") + 2)
    lines += ["", "confusion matrix, a row for each true label, a column for each predicted one"]
    lines.append(" " * width + "".join(f"{label!s:>{width}}" for label in report["labels"]))
    for label, row in zip(report["labels"], report["confusion_matrix"], strict=True):
        lines.append(f"{label!s:{width}}" + "".join(f"{count:>{width},}" for count in row))
    return "\n".join(lines + _show_mistakes(report))


def _show_mistakes(report):
    mistakes = report["worst_mistakes"]
    lines = ["", f"the {len(mistakes)} worst mistakes"] if mistakes else []
    for row in mistakes:
        text = " ".join(row["text"].split())
        text = text if len(text) <= 100 else text[:99] + "…"
        verdict = f"{row['label']} taken for {row['predicted']} ({row['score']:.3f})"
        lines.append(f"row {row['row']}: {verdict}: {text}")
    return lines


def serve(model, preprocessor, labels):
    """What the exported model does.

    Args:
        model: from `build`.
        preprocessor: `BertPreprocessor`.
        labels: the label of each column.

    Returns:
        `(function, signature)`. The function takes `text`, string `(batch,)`, and returns
        `label`, string `(batch,)`; `score`, float32 `(batch,)`, its probability; `classes`,
        string `(batch, num_classes)`; `probabilities`, float32 `(batch, num_classes)`.
    """
    import tensorflow as tf

    names = tf.constant([str(label) for label in labels])

    def serving_default(text):
        probabilities = tf.nn.softmax(model(preprocessor(text), training=False))
        classes = tf.broadcast_to(names, tf.shape(probabilities))
        return {
            "label": tf.gather(names, tf.argmax(probabilities, axis=1)),
            "score": tf.reduce_max(probabilities, axis=1),
            "classes": classes,
            "probabilities": probabilities,
        }

    return serving_default, [tf.TensorSpec([None], tf.string, name="text")]


def _softmax(logits):
    return np.asarray(ops.convert_to_numpy(ops.softmax(np.asarray(logits, "float32"))))
