"""Requests share runs of a model: micro-batches of rows of like length, from a bounded queue."""

import asyncio
import collections
import dataclasses
import functools
import itertools
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_bert_app.serving.errors import ServingError

log = logging.getLogger(__name__)


def num_cores():
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@dataclasses.dataclass
class Batching:
    """How requests are run together; the names are those of TensorFlow Serving's parameters.

    Args:
        max_batch_size: rows of a run; a request with more is spread over several.
        batch_timeout_micros: how long an idle thread waits for more rows.
        max_enqueued_batches: batches whose rows wait at most; what comes then is refused.
        num_batch_threads: runs at the same time; by default one for each processor core, at most 4.
        enabled: False to run each request alone.
    """

    max_batch_size: int = 32
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 64
    num_batch_threads: int = min(num_cores(), 4)
    enabled: bool = True


@dataclasses.dataclass(eq=False)
class Task:
    """A request that waits, or runs.

    Args:
        rows: the rows that still wait, sorted by length; None for a request that runs alone.
        lengths: of all its rows.
        missing: rows without an answer yet.
    """

    signature: object
    arrays: dict
    future: asyncio.Future
    rows: collections.deque | None = None
    lengths: np.ndarray | None = None
    missing: int = 0
    outputs: dict | None = None
    arrival: float = dataclasses.field(default_factory=time.monotonic)

    def finish(self, outputs=None, error=None):
        """Answers the request, if nobody has yet, and it was not given up."""
        if not self.future.done():
            self.future.set_exception(error) if error else self.future.set_result(outputs)


class Scheduler:
    """Runs requests on threads; all its methods belong to the thread of the event loop."""

    def __init__(self, batching):
        self.batching = batching
        self.waiting = collections.deque()  # tasks, the one whose turn it is first
        self.idle = batching.num_batch_threads
        self.threads = ThreadPoolExecutor(batching.num_batch_threads, "run")
        self.closed = False
        self.timer = None
        self.observe = lambda rows: None

    @property
    def pending(self):
        """How many rows wait for a thread."""
        return sum(len(task.rows or (0,)) for task in self.waiting if not task.future.done())

    async def run(self, signature, arrays):
        """The outputs of a signature for a dict of arrays.

        Raises:
            ServingError: the queue is full, or the run failed.
        """
        limit = self.batching.max_enqueued_batches * self.batching.max_batch_size
        task = Task(signature, arrays, asyncio.get_running_loop().create_future())
        numbers = {len(array) if array.ndim else 0 for array in arrays.values()}
        if self.batching.enabled and signature.joins and len(numbers) == 1 and min(numbers) > 0:
            task.missing = min(numbers)
            task.lengths = _lengths(arrays)
            task.rows = collections.deque(np.argsort(task.lengths, kind="stable").tolist())
        pending = self.pending
        if pending and pending + max(task.missing, 1) > limit:  # one alone may be larger
            raise ServingError(
                f"The batch scheduling queue to which this task was submitted is full; {pending} rows wait. "
                "Try again later",
                "UNAVAILABLE",
            )
        self.waiting.append(task)
        self._dispatch()
        return await task.future

    def close(self):
        """Lets the threads go, once they are done with what they run."""
        self.closed = True
        self.threads.shutdown(wait=True, cancel_futures=True)

    def _dispatch(self):
        """Gives work to idle threads."""
        while self.idle and not self.closed:
            tasks, work = self._next()
            if work is None:
                return
            self.idle -= 1
            running = asyncio.get_running_loop().run_in_executor(self.threads, work)
            running.add_done_callback(functools.partial(self._done, tasks))

    def _done(self, tasks, running):
        self.idle += 1
        try:
            running.result()()
        except Exception as error:  # whoever waits for an answer must get one
            log.exception("a run failed")
            for task in tasks:
                task.finish(error=ServingError(f"{type(error).__name__}: {error}", "INTERNAL"))
        self._dispatch()

    def _next(self):
        """The tasks whose turn it is and a function for a thread, `([], None)` if there are none yet."""
        self.waiting = collections.deque(task for task in self.waiting if not task.future.done())
        if not self.waiting:
            return [], None
        first = self.waiting[0]
        if first.rows is None:
            return [self.waiting.popleft()], lambda: self._alone(first)
        most = self.batching.max_batch_size
        tasks = [task for task in self.waiting if _fit(task, first)]
        rows = [(task, row) for task in tasks for row in itertools.islice(task.rows, most)][: 4 * most]
        if len(rows) < most and not self._has_waited(first):
            return [], None
        rows.sort(key=lambda pair: pair[0].lengths[pair[1]])
        lengths = [task.lengths[row] for task, row in rows]
        mine = rows.index((first, first.rows[0]))
        chosen = next(part for part in split(lengths, most) if part.start <= mine < part.stop)
        rows = rows[chosen]
        for task, row in rows:
            task.rows.remove(row)
        self.waiting = collections.deque(task for task in self.waiting if task.rows is None or task.rows)
        if first.rows:  # the others have their turn before its next rows
            self.waiting.rotate(-1)
        return list({id(task): task for task, _ in rows}.values()), lambda: self._together(rows)

    def _has_waited(self, task):
        """True if the task has waited long enough for others; else it is looked at again when it has."""
        left = task.arrival + self.batching.batch_timeout_micros / 1e6 - time.monotonic()
        if left <= 0:
            return True
        if self.timer is None:
            self.timer = asyncio.get_running_loop().call_later(left, self._wake)
        return False

    def _wake(self):
        self.timer = None
        self._dispatch()

    def _together(self, rows):
        """Runs rows of several tasks; returns what is left to be done in the event loop."""
        signature = rows[0][0].signature
        arrays = {
            name: np.concatenate([task.arrays[name][row : row + 1] for task, row in rows])
            for name in signature.inputs
        }
        try:
            outputs = signature(arrays)
        except ServingError:
            outputs = None
        if outputs and any(array.ndim == 0 or len(array) != len(rows) for array in outputs.values()):
            outputs = None
        return lambda: self._scatter(rows, outputs)

    def _scatter(self, rows, outputs):
        """Gives the rows of a run to their tasks. What went wrong together is tried again alone."""
        self.observe(len(rows))
        for index, (task, row) in enumerate(rows):
            if outputs is None:
                if task.rows is not None:
                    task.rows = None
                    if task not in self.waiting:
                        self.waiting.append(task)
                continue
            if task.outputs is None:
                number = len(task.lengths)
                task.outputs = {
                    name: np.empty((number, *array.shape[1:]), array.dtype) for name, array in outputs.items()
                }
            for name, array in outputs.items():
                task.outputs[name][row] = array[index]
            task.missing -= 1
            if not task.missing and task.rows is not None:
                task.finish(task.outputs)

    def _alone(self, task):
        """Runs one task; returns what is left to be done in the event loop."""
        try:
            outputs, error = task.signature(task.arrays), None
        except ServingError as failure:
            outputs, error = None, failure

        def finish():
            self.observe(1 if task.lengths is None else len(task.lengths))
            task.finish(outputs, error)

        return finish


def _fit(task, other):
    """True if the rows of two tasks can stand in one array."""
    return (
        task.signature is other.signature
        and task.rows
        and all(task.arrays[name].shape[1:] == array.shape[1:] for name, array in other.arrays.items())
    )


def _lengths(columns):
    """How long the texts of each row are, in bytes."""
    texts = [column for column in columns.values() if column.dtype == object]
    number = len(next(iter(columns.values())))
    lengths = np.zeros(number, np.int64)
    for column in texts:
        lengths += [sum(map(len, np.ravel(row))) if column.ndim > 1 else len(row) for row in column]
    return lengths


def split(lengths, most):
    """Sorted lengths as slices of at most `most` rows, the longest at most twice as long as the shortest.

    Rows of one run are padded to the longest; and each run has a cost of its own.
    """
    begin = 0
    for end in range(1, len(lengths) + 1):
        if (
            end == len(lengths)
            or end - begin == most
            or (lengths[end] > 2 * lengths[begin] + 100 and end - begin >= 4)
        ):
            yield slice(begin, end)
            begin = end
