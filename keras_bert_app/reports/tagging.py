"""The reports of token classification as lines of text."""

from keras_bert_app.reports import classification


def entities(report):
    """A report of named entities as text, in the order of conlleval."""
    shares = ", ".join(f"{name} {report[name.lower()]:.4f}" for name in ("precision", "recall", "F1"))
    lines = [
        f"entities: {shares}",
        f"accuracy {report['accuracy']:.4f} of {report['words']:,} words in {report['examples']:,} sentences",
        "",
        *classification.per_class({"per_class": report["per_type"]}),
    ]
    mistakes = report["worst_mistakes"]
    lines += ["", f"the {len(mistakes)} worst mistakes"] if mistakes else []
    for row in mistakes:
        verdict = f"{row['label']} missed" if row["predicted"] is None else f"{row['predicted']} invented"
        where = f"sentence {row['row']}, word {row['words'][0] + 1}"
        lines.append(f"{where}: {verdict} ({row['score']:.3f}): {row['text']}")
    return "\n".join(lines)


def tags(report):
    """A report of tags that are not of entities as text."""
    lines = [
        f"accuracy {report['accuracy']:.4f} of {report['words']:,} words in {report['examples']:,} sentences",
        "",
        *classification.per_class(report),
    ]
    return "\n".join(lines)
