import itertools

import numpy as np
import pytest

from keras_bert_app.data import examples
from keras_bert_app.data.documents import Document
from keras_bert_app.data.examples import SegmentPairs, pack_documents

CLS, SEP = 2, 3
PLACES = 10_000  # ids of a document: its number times this, and the piece's place


def document(number, sizes):
    """A document of sentences of `sizes` whose piece ids say where they are from."""
    ends = np.cumsum(sizes)
    return Document(np.arange(ends[-1], dtype="int32") + number * PLACES, ends)


def made_up(random, number=13, sentences=11, longest=9):
    sizes = (random.integers(1, longest + 1, random.integers(1, sentences + 1)) for _ in range(number))
    return [document(index + 1, size) for index, size in enumerate(sizes)]


def joined(lists):
    return list(itertools.chain.from_iterable(lists))


def parse(row, sequence_length):
    """The two segments and the label of a row of the right form."""
    ids, types = row["input_word_ids"], row["input_type_ids"]
    assert ids.dtype == types.dtype == "int32"
    assert type(row["next_sentence_labels"]) is int
    assert len(ids) == len(types) <= sequence_length
    middle, end = np.flatnonzero(ids == SEP)
    assert (ids[0], end) == (CLS, len(ids) - 1)
    assert types.tolist() == [0] * (middle + 1) + [1] * (end - middle)
    first, second = ids[1:middle].tolist(), ids[middle + 1 : end].tolist()
    for segment in (first, second):
        assert segment  # not empty, and of one document without a gap
        assert segment == list(range(segment[0], segment[0] + len(segment)))
        assert segment[0] >= PLACES
        assert segment[0] // PLACES == segment[-1] // PLACES
    return first, second, row["next_sentence_labels"]


def pairs(documents, sequence_length, seed=1, **options):
    """The parsed rows of each document."""
    make = SegmentPairs((CLS, SEP), sequence_length, **options)
    random = np.random.default_rng(seed)
    rows = [parse(row, sequence_length) for row in make(documents, random)]
    swapped = options.get("swap")
    groups = {index + 1: [] for index in range(len(documents))}
    order = []
    for first, second, label in rows:
        owner = (second if swapped and label else first)[0] // PLACES
        order.append(owner)
        groups[owner].append((first, second, label))
    assert order == sorted(order)
    return groups


def one_by_one(first, second, room):
    """How long two segments are when the longer loses a piece at a time, of equal ones the second."""
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


def could_be(first, second, ends, room, full, swapped=False):
    """Whether sentences can be found that are one pair of segments before it is cut to `room`."""
    bounds = [0, *map(int, ends)]
    place, length = first[0] % PLACES, len(first)
    other, rest = second[0] % PLACES, len(second)
    for start, cut, end in itertools.combinations(range(len(bounds)), 3):
        a, b, c = bounds[start], bounds[cut], bounds[end]
        if not (a <= place and place + length <= b <= other and other + rest <= c):
            continue
        sizes = one_by_one(c - b, b - a, room)[::-1] if swapped else one_by_one(b - a, c - b, room)
        if sizes != (length, rest):
            continue
        # As many sentences as it takes to fill a row, or all that are left.
        enough = c - a >= room or end == len(bounds) - 1
        # No more than that, but for two sentences, which are the fewest.
        if not full or (enough and bounds[end - 1] - a < room):
            return True
    return False


# Pairs


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("short_seq_prob", [0.0, 0.3, 1.0])
def test_pairs_of_random_documents(seed, short_seq_prob):
    random = np.random.default_rng(seed)
    length = int(random.integers(8, 41))
    documents = made_up(random, longest=int(random.integers(1, length)))
    rows = pairs(documents, length, seed, short_seq_prob=short_seq_prob)
    assert all(rows.values())
    for owner, group in rows.items():
        for first, second, label in group:
            same = second[0] // PLACES == owner
            assert label == (not same)
            if same:
                ends = documents[owner - 1].ends
                assert could_be(first, second, ends, length - 3, full=not short_seq_prob)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("short_seq_prob", [0.0, 0.5])
def test_all_sentences_are_used_once_and_in_order(seed, short_seq_prob, monkeypatch):
    monkeypatch.setattr(examples, "_truncate", lambda first, second, room, random: (first, second))
    documents = made_up(np.random.default_rng(seed))
    make = SegmentPairs((CLS, SEP), 23, short_seq_prob)
    found = {index + 1: [] for index in range(len(documents))}
    for row in make(documents, np.random.default_rng(seed)):
        first, second, label = parse(row, 1000)
        found[first[0] // PLACES] += first + second * (not label)
        starts = {0, *documents[second[0] // PLACES - 1].ends.tolist()}
        assert second[0] % PLACES in starts
        assert second[-1] % PLACES + 1 in starts
    for index, one in enumerate(documents):
        assert found[index + 1] == one.pieces.tolist()


def test_half_of_the_pairs_do_not_belong_together():
    documents = [document(number, [3, 5, 4] * 500) for number in (1, 2, 3, 4)]
    rows = pairs(documents, 43)
    labels = [label for group in rows.values() for _, _, label in group]
    assert len(labels) > 500
    assert abs(np.mean(labels) - 0.5) < 4 * 0.5 / len(labels) ** 0.5
    # The other document is any, and the place in it too.
    others = [second for first, second, label in rows[2] if label]
    counts = np.bincount([second[0] // PLACES for second in others], minlength=5)[[1, 3, 4]]
    assert (abs(counts - len(others) / 3) < 4 * (len(others) / 3) ** 0.5).all()
    places = np.array([second[0] % PLACES for second in others]) / 6000
    assert abs(places.mean() - 0.5) < 4 * 0.29 / len(others) ** 0.5
    # The first segment is of any number of sentences.
    assert {len(first) for first, _, _ in rows[2]} >= {3, 4, 5, 8, 9, 12, 20, 24}


def test_segments_from_elsewhere_fill_the_row():
    documents = [document(1, [3] * 300), document(2, [1] * 300)]
    for first, second, label in pairs(documents, 43, short_seq_prob=0.0)[1]:
        last = second[-1] % PLACES == 299
        assert not label or last or len(first) + len(second) == 40


def test_the_same_seed_gives_the_same_pairs():
    documents = made_up(np.random.default_rng(3))
    assert pairs(documents, 19, 5) == pairs(documents, 19, 5)
    assert pairs(documents, 19, 5) != pairs(documents, 19, 6)


def test_short_rows():
    # Sentences of one piece: a pair that belongs together is as long as it was meant to be.
    documents = [document(number, [1] * 9000) for number in (1, 2)]
    full = pairs(documents, 20, short_seq_prob=0.0)
    lengths = [len(a) + len(b) for group in full.values() for a, b, label in group[:-1] if not label]
    assert set(lengths) == {17}
    short = pairs(documents, 20, short_seq_prob=1.0)
    lengths = [len(a) + len(b) for group in short.values() for a, b, label in group[:-1] if not label]
    counts = np.bincount(lengths, minlength=18)
    assert counts[:2].tolist() == [0, 0]
    assert (abs(counts[2:] - len(lengths) / 16) < 5 * (len(lengths) / 16) ** 0.5).all()
    some = pairs(documents, 20, short_seq_prob=0.3)
    lengths = [len(a) + len(b) for group in some.values() for a, b, label in group[:-1] if not label]
    share = np.mean(np.array(lengths) < 17)
    assert abs(share - 0.3 * 15 / 16) < 4 * 0.5 / len(lengths) ** 0.5


def test_two_documents_of_a_sentence():
    rows = pairs([document(1, [4]), document(2, [7])], 13)
    one, two = [10_000, 10_001, 10_002, 10_003], [*range(20_000, 20_007)]
    assert rows[1][0][2] == rows[2][0][2] == 1
    assert len(rows[1]) == len(rows[2]) == 1
    assert rows[1][0][0] == one
    assert set(rows[1][0][1]) < set(two)  # of ten pieces one must go
    assert len(rows[1][0][1]) == 6


@pytest.mark.parametrize("size", [9, 10, 11, 19, 20, 21, 500])
@pytest.mark.parametrize("swap", [False, True])
def test_sentences_as_long_as_the_row(size, swap):
    documents = [document(1, [size] * 4), document(2, [1, size, 1]), document(3, [2])]
    for seed in range(20):
        rows = pairs(documents, 13, seed, swap=swap)  # parse looks for empty segments
        assert rows[1]
        assert rows[2]
        for first, second, _ in rows[1]:
            # Each keeps half, if it has that much.
            assert len(first) + len(second) <= 10
            assert len(second) in (5, 1, 2)
            assert len(first) == 10 - len(second)


@pytest.mark.parametrize("swap", [False, True])
def test_the_smallest_row(swap):
    for seed in range(50):
        documents = made_up(np.random.default_rng(seed), longest=5)
        rows = pairs(documents, 8, seed, short_seq_prob=0.9, swap=swap)
        assert sum(map(len, rows.values())) > 5


# Order


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("short_seq_prob", [0.0, 0.5])
def test_order_of_random_documents(seed, short_seq_prob):
    random = np.random.default_rng(seed)
    length = int(random.integers(8, 41))
    documents = made_up(random, longest=int(random.integers(1, length)))
    for owner, group in pairs(documents, length, seed, short_seq_prob=short_seq_prob, swap=True).items():
        ends = documents[owner - 1].ends
        assert bool(group) == (len(ends) > 1)
        for first, second, label in group:
            assert first[0] // PLACES == second[0] // PLACES == owner
            assert label == (first[0] > second[0])
            parts = (second, first) if label else (first, second)
            assert could_be(*parts, ends, length - 3, full=False, swapped=label)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("short_seq_prob", [0.0, 0.5, 1.0])
def test_order_uses_all_sentences(seed, short_seq_prob, monkeypatch):
    monkeypatch.setattr(examples, "_truncate", lambda first, second, room, random: (first, second))
    documents = [one for one in made_up(np.random.default_rng(seed)) if len(one.ends) > 1]
    make = SegmentPairs((CLS, SEP), 23, short_seq_prob, swap=True)
    found = {one.pieces[0] // PLACES: [] for one in documents}
    for row in make(documents, np.random.default_rng(seed)):
        first, second, label = parse(row, 1000)
        whole = second + first if label else first + second
        assert whole == list(range(whole[0], whole[0] + len(whole)))  # one follows the other
        found[whole[0] // PLACES].append(whole)
    for one in documents:
        rows = found[one.pieces[0] // PLACES]
        # A sentence that is left over comes together with the one before it.
        *before, last = rows
        begin = max(last[0] % PLACES, len(joined(before))) + one.pieces[0]
        assert joined(before) + [piece for piece in last if piece >= begin] == one.pieces.tolist()
        assert len(joined(rows)) - len(one.pieces) in (0, *np.diff(one.ends, prepend=0)[-2:-1])


def test_half_of_the_pairs_are_swapped():
    rows = pairs([document(1, [3, 5, 4] * 700)], 37, swap=True)[1]
    labels = [label for _, _, label in rows]
    assert len(labels) > 200
    assert abs(np.mean(labels) - 0.5) < 4 * 0.5 / len(labels) ** 0.5


# Truncation


@pytest.mark.parametrize("room", [2, 3, 5, 10, 17])
def test_truncation_takes_from_the_longer_first(room):
    random = np.random.default_rng(room)
    for first, second in itertools.product([1, 2, 3, 4, 5, 7, 9, 16, 17, 30], repeat=2):
        segments = np.arange(first), np.arange(second) + PLACES
        cut = examples._truncate(*segments, room, random)
        assert tuple(map(len, cut)) == one_by_one(first, second, room)
        assert all(map(len, cut))
        for part, whole in zip(cut, segments, strict=True):
            assert part.tolist() == whole[part[0] - whole[0] :][: len(part)].tolist()


def test_truncation_at_the_front_and_the_end():
    random = np.random.default_rng(4)
    fronts = np.array(
        [
            [part[0] for part in examples._truncate(np.arange(50), np.arange(31), 41, random)]
            for _ in range(4000)
        ]
    )
    # 19 pieces of the first, then 10 of it and 11 of the second, each from one of the two sides by chance.
    for front, count in zip(fronts.T, (29, 11), strict=True):
        assert abs(front.mean() - count / 2) < 4 * (count / 4 / 4000) ** 0.5
        assert abs(front.var() / (count / 4) - 1) < 0.15


# Documents


def test_where_sentences_begin_and_end():
    random = np.random.default_rng(6)
    for _ in range(30):
        sizes = random.integers(1, 9, random.integers(1, 8)).tolist()
        one = document(1, sizes)
        for sentence in range(len(sizes)):
            assert one.start(sentence) == sum(sizes[:sentence])
            for target in range(-3, 30):
                last = sentence
                while last < len(sizes) - 1 and sum(sizes[sentence : last + 1]) < target:
                    last += 1
                assert one.last(sentence, target) == last


# Full rows


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length", [8, 11, 13, 64, 5000])
def test_full_rows_hold_every_piece(seed, length):
    documents = made_up(np.random.default_rng(seed), number=7)
    rows = list(pack_documents(documents, (CLS, SEP), length))
    stream = []
    for row in rows:
        ids, types = row["input_word_ids"], row["input_type_ids"]
        assert set(row) == {"input_word_ids", "input_type_ids"}
        assert ids.dtype == types.dtype == "int32"
        assert (ids[0], ids[-1]) == (CLS, SEP)
        assert types.tolist() == [0] * len(ids)
        stream += ids[1:-1].tolist()
    assert {len(row["input_word_ids"]) for row in rows[:-1]} <= {length}
    assert 3 <= len(rows[-1]["input_word_ids"]) <= length
    expected = [[*one.pieces.tolist(), SEP] for one in documents]
    assert stream == joined(expected)[:-1]


def test_one_document_that_fills_a_row():
    rows = list(pack_documents([document(1, [4, 5])], (CLS, SEP), 11))
    assert [row["input_word_ids"].tolist() for row in rows] == [[CLS, *range(10_000, 10_009), SEP]]
