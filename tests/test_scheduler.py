import asyncio
import threading
import time

import numpy as np
import pytest

from keras_bert_app.serving.errors import ServingError
from keras_bert_app.serving.scheduler import Batching, Scheduler, split


class Signature:
    """Doubles numbers and counts the letters of texts; remembers the rows of each run."""

    def __init__(self, joins=True, inputs=("x",)):
        self.joins = joins
        self.inputs = dict.fromkeys(inputs, np.dtype("float32"))
        self.runs = []
        self.open = threading.Event()
        self.open.set()

    def __call__(self, arrays):
        self.open.wait(10)
        x = arrays["x"]
        self.runs.append(x.tolist())
        if x.dtype == object:
            return {"y": np.array([len(text) for text in x])}
        if np.any(x < 0):
            raise ServingError(f"{x.min()} is negative")
        return {"y": 2 * x}


def run(scheduler, *coroutines):
    """The results, or errors, of coroutines at the same time."""

    async def all_of_them():
        return await asyncio.gather(*coroutines, return_exceptions=True)

    try:
        return asyncio.run(all_of_them())
    finally:
        scheduler.close()


def numbers(*values):
    return {"x": np.array(values, np.float32)}


def wait(scheduler, signature, *inputs):
    """Runs requests that come while the only thread is busy."""

    async def all_of_them():
        signature.open.clear()
        first = asyncio.ensure_future(scheduler.run(signature, numbers(0)))
        await asyncio.sleep(0.05)
        others = [asyncio.ensure_future(scheduler.run(signature, arrays)) for arrays in inputs]
        await asyncio.sleep(0.05)
        signature.open.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    try:
        return asyncio.run(all_of_them())[1:]
    finally:
        scheduler.close()


def test_requests_share_runs():
    signature = Signature()
    found = wait(
        Scheduler(Batching(num_batch_threads=1)), signature, numbers(1), numbers(2, 3), numbers(4, 5, 6)
    )
    assert [outputs["y"].tolist() for outputs in found] == [[2], [4, 6], [8, 10, 12]]
    assert signature.runs == [[0], [1, 2, 3, 4, 5, 6]]


def test_rows_of_like_length_share_runs():
    signature = Signature()
    texts = [b"a" * size for size in (900, 3, 950, 1, 2, 5, 920, 4, 910)]
    inputs = [{"x": np.array([text], object)} for text in texts]
    found = wait(Scheduler(Batching(num_batch_threads=1)), signature, *inputs)
    assert [outputs["y"].tolist() for outputs in found] == [[len(text)] for text in texts]
    assert [[len(text) for text in texts] for texts in signature.runs[1:]] == [
        [900, 910, 920, 950],
        [1, 2, 3, 4, 5],
    ]


def test_a_large_request_is_spread_over_runs():
    signature = Signature()
    (found,) = run(
        scheduler := Scheduler(Batching(max_batch_size=3)), scheduler.run(signature, numbers(*range(8)))
    )
    assert found["y"].tolist() == [2 * number for number in range(8)]
    assert sorted(map(len, signature.runs)) == [2, 3, 3]


def test_an_error_is_only_for_who_has_made_it():
    found = wait(
        Scheduler(Batching(num_batch_threads=1)), Signature(), numbers(1), numbers(2, -3), numbers(4)
    )
    assert found[0]["y"].tolist() == [2]
    assert isinstance(found[1], ServingError)
    assert "-3.0 is negative" in found[1].message
    assert found[2]["y"].tolist() == [8]


@pytest.mark.parametrize(
    ("signature", "enabled", "inputs"),
    [
        (Signature(joins=False), True, [numbers(1), numbers(2)]),
        (Signature(), False, [numbers(1), numbers(2)]),
        (Signature(), True, [numbers([1]), numbers([2, 3])]),  # of other shapes
        (Signature(), True, [{"x": np.array(1, np.float32)}, {"x": np.array(2, np.float32)}]),
        (Signature(), True, [numbers(), numbers()]),
    ],
)
def test_requests_that_run_alone(signature, enabled, inputs):
    found = wait(Scheduler(Batching(num_batch_threads=1, enabled=enabled)), signature, *inputs)
    assert signature.runs[1:] == [arrays["x"].tolist() for arrays in inputs]
    assert [outputs["y"].tolist() for outputs in found] == [(2 * arrays["x"]).tolist() for arrays in inputs]


def test_rows_that_get_lost_are_asked_for_alone():
    class Odd(Signature):
        def __call__(self, arrays):
            outputs = super().__call__(arrays)
            return outputs if len(arrays["x"]) == 1 else {"y": outputs["y"][:1]}

    found = wait(Scheduler(Batching(num_batch_threads=1)), Odd(), numbers(1), numbers(2), numbers(3))
    assert [outputs["y"].tolist() for outputs in found] == [[2], [4], [6]]


def test_a_large_request_lets_others_through():
    signature = Signature()
    batching = Batching(num_batch_threads=1, max_batch_size=2)
    wait(Scheduler(batching), signature, numbers(*range(1, 9)), numbers(100))
    assert signature.runs[1] == [1, 2]
    assert 100 in signature.runs[2]
    assert sorted(number for run in signature.runs for number in run) == [*range(9), 100]


def test_a_large_request_that_is_given_up_does_not_run_on():
    signature = Signature()
    scheduler = Scheduler(Batching(num_batch_threads=1, max_batch_size=2))

    async def give_up():
        signature.open.clear()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await scheduler.run(signature, numbers(*range(100)))
        signature.open.set()
        return await scheduler.run(signature, numbers(3))

    assert run(scheduler, give_up())[0]["y"].tolist() == [6]
    assert signature.runs == [[0, 1], [3]]


@pytest.mark.parametrize("joins", [True, False])
def test_a_run_that_breaks_is_answered(joins, caplog):
    class Broken(Signature):
        def __call__(self, arrays):
            raise MemoryError("no room")

    (found,) = run(scheduler := Scheduler(Batching()), scheduler.run(Broken(joins), numbers(1)))
    assert (found.code, found.message) == ("INTERNAL", "MemoryError: no room")


def test_a_full_queue_refuses():
    batching = Batching(max_batch_size=1, max_enqueued_batches=2, num_batch_threads=1)
    found = wait(Scheduler(batching), Signature(), numbers(1), numbers(2), numbers(3), numbers(4))
    refused = [error for error in found if isinstance(error, ServingError)]
    assert [error.http_status for error in refused] == [503, 503]
    assert "is full; 2 rows wait" in refused[0].message
    assert [outputs["y"].tolist() for outputs in found[:2]] == [[2], [4]]


def test_a_request_that_is_given_up_does_not_run():
    signature = Signature()
    scheduler = Scheduler(Batching(num_batch_threads=1))

    async def give_up():
        signature.open.clear()
        first = asyncio.ensure_future(scheduler.run(signature, numbers(1)))
        await asyncio.sleep(0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await scheduler.run(signature, numbers(2))
        signature.open.set()
        await first
        return await scheduler.run(signature, numbers(3))

    assert run(scheduler, give_up())[0]["y"].tolist() == [6]
    assert signature.runs == [[1], [3]]


def test_an_idle_thread_waits_for_others():
    signature = Signature()
    scheduler = Scheduler(Batching(batch_timeout_micros=200_000))

    async def late():
        await asyncio.sleep(0.02)
        return await scheduler.run(signature, numbers(2))

    start = time.monotonic()
    found = run(scheduler, scheduler.run(signature, numbers(1)), late())
    assert time.monotonic() - start >= 0.2
    assert [outputs["y"].tolist() for outputs in found] == [[2], [4]]
    assert signature.runs == [[1, 2]]


def test_split():
    lengths = [1] * 10 + [500] * 3 + [2000] * 9
    found = [lengths[part] for part in split(lengths, 8)]
    assert found == [[1] * 8, [1, 1, 500, 500], [500, 2000, 2000, 2000], [2000] * 6]
    assert list(split([], 8)) == []
