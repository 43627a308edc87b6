"""The report of sentence similarity as lines of text."""


def similarity(report):
    """A report of pairs of texts as text."""
    names = {
        "pearson": "Pearson",
        "spearman": "Spearman",
        "mean_reciprocal_rank": "mean reciprocal rank",
        "accuracy": "found at once",
    }
    shown = ", ".join(f"{name} {report[key]:.4f}" for key, name in names.items() if key in report)
    lines = [f"{shown} on {report['examples']:,} pairs"]
    mistakes = report["worst_mistakes"]
    lines += ["", f"the {len(mistakes)} worst mistakes"] if mistakes else []
    for row in mistakes:
        texts = " | ".join(" ".join(text.split()) for text in row["text"])
        texts = texts if len(texts) <= 100 else texts[:99] + "…"
        what = f"score {row['score']:g}" if "score" in row else f"rank {row['rank']:,}"
        lines.append(f"row {row['row']}: {what}, similarity {row['similarity']:.3f}: {texts}")
    return "\n".join(lines)
