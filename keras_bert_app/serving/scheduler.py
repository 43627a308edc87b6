"""Requests share runs of a model: micro-batches of rows of like length, from a bounded queue."""

import asyncio
import collections
import contextlib
import dataclasses
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_bert_app.serving.errors import ServingError


def num_cores():
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@dataclasses.dataclass
class Batching:
    """How requests are run together; the names are those of TensorFlow Serving's parameters.

    Args:
        max_batch_size: rows of a run; a request with more is spread over several.
        batch_timeout_micros: how long an idle thread waits for more rows.
        max_enqueued_batches: batches that wait at most; what comes then is refused.
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
    """A request that waits, or runs."""

    signature: object
    arrays: dict
    future: asyncio.Future
    rows: int
    outputs: dict | None = None
    missing: int = 0
    failed: bool = False
    arrival: float = dataclasses.field(default_factory=time.monotonic)


class Scheduler:
    """Runs requests on threads; all its methods belong to the thread of the event loop."""

    def __init__(self, batching):
        self.batching = batching
        self.waiting = collections.deque()  # tasks, the oldest first
        self.ready = collections.deque()  # functions for a thread
        self.idle = batching.num_batch_threads
        self.threads = ThreadPoolExecutor(batching.num_batch_threads, "run")
        self.timer = None
        self.observe = lambda rows: None

    @property
    def pending(self):
        """How many requests wait for a thread."""
        return len(self.waiting) + len(self.ready)

    async def run(self, signature, arrays):
        """The outputs of a signature for a dict of arrays.

        Raises:
            ServingError: the queue is full, or the run failed.
        """
        limit = self.batching.max_enqueued_batches * self.batching.max_batch_size
        if self.pending >= limit:
            raise ServingError(
                f"The batch scheduling queue to which this task was submitted is full; {self.pending} "
                "requests wait. Try again later",
                "UNAVAILABLE",
            )
        rows = {len(array) if array.ndim else -1 for array in arrays.values()}
        joins = self.batching.enabled and signature.joins and len(rows) == 1 and min(rows) > 0
        task = Task(signature, arrays, asyncio.get_running_loop().create_future(), min(rows) if joins else 0)
        self.waiting.append(task)
        self._dispatch()
        return await task.future

    def close(self):
        """Lets the threads go, once they are done."""
        self.threads.shutdown(wait=True, cancel_futures=True)

    def _dispatch(self):
        """Gives work to idle threads."""
        while self.idle and (self.ready or self._form()):
            self.idle -= 1
            work = self.ready.popleft()
            asyncio.get_running_loop().run_in_executor(self.threads, work).add_done_callback(self._done)

    def _done(self, future):
        self.idle += 1
        finish = future.result()
        finish()
        self._dispatch()

    def _form(self):
        """Makes work of the requests that have waited longest; False if there is none yet."""
        while self.waiting and self.waiting[0].future.done():  # given up
            self.waiting.popleft()
        if not self.waiting:
            return False
        first = self.waiting[0]
        if not first.rows:
            self.waiting.popleft()
            self.ready.append(lambda: self._alone(first))
            return True
        tasks, rows = [], 0
        for task in self.waiting:
            if rows >= 2 * self.batching.max_batch_size:
                break
            if task.signature is first.signature and _fit(task, first) and not task.future.done():
                tasks.append(task)
                rows += task.rows
        if rows < self.batching.max_batch_size and not self._has_waited(first):
            return False
        taken = set(map(id, tasks))
        self.waiting = collections.deque(task for task in self.waiting if id(task) not in taken)
        self.ready.extend(self._batches(tasks))
        return True

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

    def _batches(self, tasks):
        """Functions for a thread, each of which runs some rows of the tasks."""
        rows = [(task, row) for task in tasks for row in range(task.rows)]
        for task in tasks:
            task.missing = task.rows
        columns = {
            name: np.concatenate([task.arrays[name] for task in tasks]) for name in tasks[0].signature.inputs
        }
        lengths = _lengths(columns)
        order = np.argsort(lengths, kind="stable")
        for chosen in split(lengths[order], self.batching.max_batch_size):
            places = order[chosen]
            arrays = {name: column[places] for name, column in columns.items()}
            yield self._batch(tasks[0].signature, arrays, [rows[place] for place in places])

    def _batch(self, signature, arrays, rows):
        def work():
            try:
                outputs = signature(arrays)
                if any(array.ndim == 0 or len(array) != len(rows) for array in outputs.values()):
                    outputs = None
            except ServingError:
                outputs = None
            return lambda: self._scatter(rows, outputs)

        return work

    def _scatter(self, rows, outputs):
        """Gives the rows of a run to their tasks. What went wrong together is tried again alone."""
        self.observe(len(rows))
        for index, (task, row) in enumerate(rows):
            task.missing -= 1
            if outputs is None:
                task.failed = True
            elif not task.failed:
                if task.outputs is None:
                    task.outputs = {
                        name: np.empty((task.rows, *array.shape[1:]), array.dtype)
                        for name, array in outputs.items()
                    }
                for name, array in outputs.items():
                    task.outputs[name][row] = array[index]
            if task.missing or task.future.done():
                continue
            if task.failed:
                self.ready.append(lambda task=task: self._alone(task))
            else:
                task.future.set_result(task.outputs)

    def _alone(self, task):
        try:
            outputs, error = task.signature(task.arrays), None
        except ServingError as failure:
            outputs, error = None, failure

        def finish():
            self.observe(max(task.rows, 1))
            with contextlib.suppress(asyncio.InvalidStateError):  # given up meanwhile
                task.future.set_exception(error) if error else task.future.set_result(outputs)

        return finish


def _fit(task, other):
    """True if the rows of two tasks can stand in one array."""
    return task.rows and all(
        task.arrays[name].shape[1:] == array.shape[1:] for name, array in other.arrays.items()
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
