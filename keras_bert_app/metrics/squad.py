"""Exact match and F1 of answers: the figures of SQuAD's own scripts, for versions 1.1 and 2.0."""

import re
import string
from collections import Counter

PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text):
    """A text in lower case, without punctuation, articles and superfluous spaces.

    Example:

    >>> normalize("The  Eiffel-Tower!")
    'eiffeltower'
    """
    text = text.lower().translate(PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(wanted, answer):
    """1 if an answer is one of those wanted but for case, punctuation and articles, otherwise 0."""
    return max(int(normalize(text) == normalize(answer)) for text in wanted)


def f1(wanted, answer):
    """How many words an answer has in common with the closest of those wanted, from 0 to 1.

    Example:

    >>> f1(["the Eiffel Tower", "a tower"], "Eiffel Tower in Paris")
    0.6666666666666666
    """
    return max(_f1(normalize(text).split(), normalize(answer).split()) for text in wanted)


def _f1(wanted, answer):
    common = (Counter(wanted) & Counter(answer)).total()
    return 2 * common / (len(wanted) + len(answer)) if common else 0.0


def _f1_or_none(wanted, answer):
    """As `f1`, but no answer is right if none is wanted: the script for version 2.0."""
    return max(f1(wanted, answer), float(not normalize(answer) and "" in map(normalize, wanted)))


def scores(wanted, answers, odds=None, threshold=0.0):
    """How good answers are.

    Args:
        wanted: for each question the list of right answers, empty if there is none.
        answers: for each question the best answer, `""` for none; with `odds` the best that is not none.
        odds: for each question how much better no answer is than the best one; None if every question has
            an answer. `null_odds` of the script for version 2.0.
        threshold: with `odds`, the number above which the answer is none.

    Returns:
        dict: `exact_match` and `f1`, from 0 to 100, as the scripts have them. With `odds` also `has_answer`
        and `no_answer`, for both kinds of questions `total`, `exact_match` and `f1`; and the best of each
        that a threshold gives, with it: `best_exact_match`, `best_exact_match_threshold`, `best_f1` and
        `best_f1_threshold`.

    Example:

    >>> scores([["Paris"], []], ["Paris", "Rome"], odds=[-3.0, 2.0])["best_f1_threshold"]
    -3.0

    Reference: [Rajpurkar et al., 2018](https://arxiv.org/abs/1806.03822), `evaluate-v2.0.py`.
    """
    if odds is None:
        return {name: _percent(each) for name, each in _each(wanted, answers, f1).items()}
    has_answer = [bool(texts) for texts in wanted]
    # As the script does: an answer of punctuation and articles alone is none.
    wanted = [[text for text in texts if normalize(text)] or [""] for texts in wanted]
    raw, found = _each(wanted, answers, _f1_or_none), {}
    for name, each in raw.items():
        rows = zip(each, odds, has_answer, strict=True)
        found[name] = [float(not has) if odd > threshold else score for score, odd, has in rows]
    report = {name: _percent(each) for name, each in found.items()}
    for part, has in (("has_answer", True), ("no_answer", False)):
        chosen = {
            n: [v for v, h in zip(each, has_answer, strict=True) if h == has] for n, each in found.items()
        }
        total = has_answer.count(has)
        report[part] = {
            "total": total,
            **({n: _percent(each) for n, each in chosen.items()} if total else {}),
        }
    for name, each in raw.items():
        best, where = best_threshold(each, answers, odds, has_answer)
        report |= {f"best_{name}": best, f"best_{name}_threshold": where}
    return report


def best_threshold(each, answers, odds, has_answer):
    """The best mean score, from 0 to 100, and the threshold of `odds` that gives it.

    Args:
        each: the score of each question's best answer.
        answers: the best answers.
        odds: see `scores`.
        has_answer: for each question whether it has an answer.
    """
    score = best = float(has_answer.count(False))
    where = 0.0
    for index in sorted(range(len(odds)), key=lambda index: odds[index]):
        score += each[index] if has_answer[index] else -bool(answers[index])
        if score > best:
            best, where = score, odds[index]
    return 100.0 * best / len(each), where


def _each(wanted, answers, overlap):
    return {
        name: [function(texts, answer) for texts, answer in zip(wanted, answers, strict=True)]
        for name, function in (("exact_match", exact_match), ("f1", overlap))
    }


def _percent(each):
    return 100.0 * sum(each) / len(each)
