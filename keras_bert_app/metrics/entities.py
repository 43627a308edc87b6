"""Entities in sequences of tags, and how many of them are found: the rules of conlleval."""

import re
from collections import Counter

OUTSIDE = "O"
TAG = re.compile("([BIESLU])-(.+)", re.DOTALL)
# BILOU has other letters for the end and for an entity of one word.
LETTERS = {"L": "E", "U": "S"}


def parse(tag):
    """The letter and the type of a tag, `("O", "")` outside of entities, None if it is no such tag.

    Example:

    >>> parse("B-person"), parse("O"), parse("NOUN")
    (('B', 'person'), ('O', ''), None)
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    match = TAG.fullmatch(tag)
    return match and (LETTERS.get(match[1], match[1]), match[2])


def outside(labels):
    """The index in `labels` of what a word without word pieces is: outside of entities, or the first."""
    return labels.index(OUTSIDE) if OUTSIDE in labels else 0


def find_entities(tags):
    """The entities in the tags of a sentence.

    An entity begins with `B`, `S`, after `E` or `S`, or where the type is another than before; and so it
    ends. That reads IOB1, IOB2, BIOES, BILOU and IO, and what breaks them as conlleval does.

    Args:
        tags: list of str, `"O"` or a letter, a hyphen and a type, such as `"B-person"`.

    Returns:
        list of `(first, end, type)`: the words `first` to `end - 1`.

    Example:

    >>> find_entities(["B-person", "I-person", "O", "I-place", "B-place"])
    [(0, 2, 'person'), (3, 4, 'place'), (4, 5, 'place')]

    Reference: [Tjong Kim Sang and De Meulder, 2003](https://aclanthology.org/W03-0419), `conlleval`.
    """
    entities, begin = [], None
    before, type_before = OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        letter, kind = parse(tag)
        goes_on = letter in "IE" and before in "BI" and kind == type_before
        if begin is not None and not goes_on:
            entities.append((begin, place, type_before))
            begin = None
        if letter != OUTSIDE and not goes_on:
            begin = place
        before, type_before = letter, kind
    return entities


def to_iob2(tags):
    """The tags of a sentence as IOB2: every entity begins with `B` and goes on with `I`.

    Example:

    >>> to_iob2(["I-person", "E-person", "O", "S-place"])
    ['B-person', 'I-person', 'O', 'B-place']
    """
    found = [OUTSIDE] * len(tags)
    for begin, end, kind in find_entities(tags):
        found[begin:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - begin - 1)
    return found


def in_scheme_of(labels, tags):
    """The tags of a sentence in the scheme of a model's labels, which may be IOB2, BIOES, BILOU or IO.

    Example:

    >>> in_scheme_of(["O", "B-a", "I-a", "E-a", "S-a"], ["B-a", "I-a", "O", "B-a"])
    ['B-a', 'E-a', 'O', 'S-a']
    """
    letters = {label[0] for label in labels if parse(label) and label != OUTSIDE}

    def first_of(wanted):
        return next(letter for letter in wanted if letter in letters or letter == wanted[-1])

    found = [OUTSIDE] * len(tags)
    for begin, end, kind in find_entities(tags):
        found[begin:end] = [f"{first_of('I')}-{kind}"] * (end - begin)
        found[end - 1] = f"{first_of('ELI')}-{kind}"
        found[begin] = f"{first_of('BI' if end - begin > 1 else 'SUBI')}-{kind}"
    return found


def scheme_of(sentences):
    """Which scheme the tags of sentences are of, and where they break it.

    Args:
        sentences: list of lists of tags.

    Returns:
        `(scheme, broken)`: `"IOB1"`, which IO is too, `"IOB2"` or `"BIOES"`, or None for tags that are of
        no entities, such as parts of speech; and a list of `(sentence, word)`, indices.

    Example:

    >>> scheme_of([["B-person", "I-person", "O", "B-place"], ["O", "I-person"]])
    ('IOB2', [(1, 1)])
    """
    if not all(parse(tag) for tag in {tag for tags in sentences for tag in tags}):
        return None, []
    free, adjacent, open_ends, letters = [], [], [], set()
    for number, tags in enumerate(sentences):
        before = (OUTSIDE, "")
        for place, (letter, kind) in enumerate(map(parse, [*tags, OUTSIDE])):
            inside = before[0] in "BI" and before[1] == kind
            where = number, place
            letters.add(letter)
            if letter in "IE" and not inside:  # an entity begins without B
                free.append(where)
            if letter == "B" and not inside:  # IOB1 has it between two entities only
                adjacent.append(where)
            if before[0] in "BI" and not (letter in "IE" and inside):  # BIOES ends with E
                open_ends.append((number, place - 1))
            before = letter, kind
    if letters & set("ES"):
        return "BIOES", sorted({*free, *open_ends})
    if len(free) > len(adjacent):
        return "IOB1", adjacent
    return "IOB2", free


def scores(truth, predicted):
    """Precision, recall and F1 of entities, which count as found if both ends and the type are right.

    Args:
        truth: list of lists of tags.
        predicted: the same.

    Returns:
        dict: `precision`, `recall` and `f1` of all entities; and `per_type`, for each type the same with
        `support`, the number of its entities.

    Example:

    >>> found = scores([["B-a", "I-a", "O", "B-b"]], [["B-a", "I-a", "O", "B-a"]])
    >>> found["precision"], found["per_type"]["b"]["recall"]
    (0.5, 0.0)
    """
    right, given, true = Counter(), Counter(), Counter()
    for tags, found in zip(truth, predicted, strict=True):
        wanted, answered = set(find_entities(tags)), set(find_entities(found))
        true.update(kind for _, _, kind in wanted)
        given.update(kind for _, _, kind in answered)
        right.update(kind for _, _, kind in wanted & answered)
    types = sorted({*true, *given})
    per_type = {
        kind: {**_shares(right[kind], given[kind], true[kind]), "support": true[kind]} for kind in types
    }
    return {**_shares(right.total(), given.total(), true.total()), "per_type": per_type}


def _shares(right, given, true):
    return {
        "precision": right / given if given else 0.0,
        "recall": right / true if true else 0.0,
        "f1": 2 * right / (given + true) if given + true else 0.0,
    }
