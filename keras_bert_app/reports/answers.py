"""The report of question answering as lines of text."""


def answers(report):
    """A report of answers to questions as text."""
    lines = [f"{_shares(report)} on {report['examples']:,} questions"]
    for part, name in (("has_answer", "with an answer"), ("no_answer", "without")):
        if report.get(part, {}).get("total"):
            lines.append(f"  {report[part]['total']:,} questions {name}: {_shares(report[part])}")
    if "best_f1" in report:
        best = [
            f"{name} {report[key]:.2f} with the threshold {report[key + '_threshold']:.3f}"
            for key, name in (("best_f1", "best F1"), ("best_exact_match", "best exact match"))
        ]
        lines.append(", ".join(best))
    mistakes = report["worst_mistakes"]
    if mistakes:
        first = f", the first {len(mistakes)}" if report["wrong"] > len(mistakes) else ""
        lines += ["", f"{report['wrong']:,} wrong answers{first}"]
    for row in mistakes:
        wanted = " / ".join(dict.fromkeys(row["wanted"])) or "no answer"
        lines.append(f"row {row['row']}: {row['question']} {row['answer'] or 'no answer'}, not {wanted}")
    return "\n".join(lines)


def _shares(report):
    return f"exact match {report['exact_match']:.2f}, F1 {report['f1']:.2f}"
