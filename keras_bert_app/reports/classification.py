"""The reports of text classification as lines of text."""

WIDEST = 12  # labels of a confusion matrix that is shown


def single_label(report):
    """A report of one label for each example as text."""
    lines = [
        f"accuracy {report['accuracy']:.4f} on {report['examples']:,} examples",
        f"macro F1 {report['macro_f1']:.4f}, Matthews correlation {report['matthews_correlation']:.4f}",
        "",
        *per_class(report),
    ]
    if len(report["labels"]) > WIDEST:
        lines += ["", f"confusion matrix of {len(report['labels'])} labels: too wide to show, see --json"]
        return "\n".join(lines + mistakes(report))
    names = [len(str(label)) for label in report["labels"]]
    width = max(*names, len(f"{report['examples']:,}")) + 2
    lines += ["", "confusion matrix, a row for each true label, a column for each predicted one"]
    lines.append(" " * width + "".join(f"{label!s:>{width}}" for label in report["labels"]))
    for label, row in zip(report["labels"], report["confusion_matrix"], strict=True):
        lines.append(f"{label!s:{width}}" + "".join(f"{count:>{width},}" for count in row))
    return "\n".join(lines + mistakes(report))


def multi_label(report):
    """A report of any number of labels for each example as text."""
    lines = [
        f"micro F1 {report['micro_f1']:.4f}, macro F1 {report['macro_f1']:.4f}, "
        f"all labels right {report['exact_match']:.4f} on {report['examples']:,} examples, "
        f"labels from probability {report['threshold']:g} on",
        "",
        *per_class(report),
    ]
    return "\n".join(lines + mistakes(report))


def regression(report):
    """A report of numbers as text."""
    lines = [
        f"Pearson {report['pearson']:.4f}, Spearman {report['spearman']:.4f}, mean absolute error "
        f"{report['mean_absolute_error']:.4f} on {report['examples']:,} examples"
    ]
    return "\n".join(lines + mistakes(report))


def per_class(report):
    """Precision, recall, F1 and support of each class, as lines."""
    width = max(len(str(label)) for label in report["per_class"]) + 2
    lines = [" " * width + "precision  recall      f1  support"]
    for label, row in report["per_class"].items():
        shares = f"{row['precision']:9.4f} {row['recall']:7.4f} {row['f1']:7.4f}"
        lines.append(f"{label:{width}}{shares} {row['support']:8,}")
    return lines


def mistakes(report):
    """The worst mistakes, as lines."""
    rows = report["worst_mistakes"]
    lines = ["", f"the {len(rows)} worst mistakes"] if rows else []
    for row in rows:
        given = row["text"] if isinstance(row["text"], str) else " | ".join(row["text"])
        given = " ".join(given.split())
        given = given if len(given) <= 100 else given[:99] + "…"
        score = f" ({row['score']:.3f})" if "score" in row else ""
        lines.append(
            f"row {row['row']}: {_one(row['label'])} taken for {_one(row['predicted'])}{score}: {given}"
        )
    return lines


def _one(label):
    """A label, several, or a number, as a word."""
    if isinstance(label, list | tuple):
        return "+".join(map(str, label)) or "none"
    return f"{label:.3f}" if isinstance(label, float) else str(label)
