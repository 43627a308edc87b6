"""Batches from Python to `fit` and `evaluate`, with an orderly end."""

import contextlib
import threading
import time
import traceback

import keras

WAIT = 2.0  # seconds for a batch that is being made when the training is broken off
WAIT_AT_THE_END = 10.0  # for the thread to see that there is no further one; mostly it does so at once
LAST = 0.3  # seconds for the few lines of Python that TensorFlow runs after the last batch


class Feed:
    """Batches for a training that may end before they do.

    On TensorFlow they are made by a thread beside the training. To free its dataset while that thread
    is in Python waits forever, as does the end of the process: so the thread is let go first.

    Args:
        batches: iterable of `(inputs, targets, weights)`, dicts of arrays.
    """

    def __init__(self, batches):
        self.batches = batches
        self.closed = False
        self.ended = threading.Event()
        self.error = None

    def data(self, specs):
        """What `fit` takes: a dataset on TensorFlow, a generator otherwise.

        Args:
            specs: the structure of a batch, with a `keras.KerasTensor` in the place of each array.
        """
        if keras.config.backend() != "tensorflow":
            self.ended.set()  # there is no thread
            return self._generate()
        import tensorflow as tf

        signature = keras.tree.map_structure(lambda spec: tf.TensorSpec(spec.shape, spec.dtype), specs)
        dataset = tf.data.Dataset.from_generator(self._generate, output_signature=signature).prefetch(2)
        # The thread that tunes it looks after 10 ms, 20, 40 and so on whether it shall end, and the end of
        # `fit` waits for it: up to twice the time of an epoch, or a minute.
        options = tf.data.Options()
        options.autotune.enabled = False
        return dataset.with_options(options)

    def _generate(self):
        try:
            for batch in self.batches:
                if self.closed:
                    return
                yield batch
        except Exception as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    def fit(self, model, specs, steps, callbacks, epoch=0):
        """Trains for one epoch.

        Args:
            model: compiled `keras.Model`.
            specs: see `data`.
            steps: number of the batches.
            callbacks: list of Keras callbacks.
            epoch: number of the epoch, from 0.

        Returns:
            dict of losses and metrics.
        """
        with self.running():
            history = model.fit(
                self.data(specs),
                steps_per_epoch=steps,
                initial_epoch=epoch,
                epochs=epoch + 1,
                callbacks=callbacks,
                verbose=0,
                shuffle=False,  # the batches are
            ).history
        return {name: values[-1] for name, values in history.items()}

    @contextlib.contextmanager
    def running(self):
        """Around `fit` or `evaluate`: an error in the making of a batch is raised as it is."""
        try:
            yield
            self.ended.wait(WAIT_AT_THE_END)
        except BaseException as error:
            self.closed = True
            self.ended.wait(WAIT)  # or else the thread waits too, for room, outside of Python
            time.sleep(LAST)
            traceback.clear_frames(error.__traceback__)  # frees the dataset, now and not when all ends
            if self.error is not None:
                raise self.error from None
            raise
