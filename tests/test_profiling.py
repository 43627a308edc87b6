import time

import keras
import numpy as np
import pytest

from keras_bert_app import profiling
from keras_bert_app.profiling import StepProfile

pytestmark = pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="traces are TensorFlow's")


def model(activation="relu"):
    layers = [keras.Input((256,)), keras.layers.Dense(256, activation, name="wide"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse", jit_compile=False)
    return model


def fit(profile, steps=20, **options):
    batch = np.ones((steps, 256), "float32"), np.ones((steps, 1), "float32")
    options.setdefault("model", model()).fit(*batch, batch_size=1, verbose=0, callbacks=[profile])


def traces(folder):
    return list(folder.glob("plugins/profile/*/*.xplane.pb"))


def test_table_and_trace(tmp_path, capsys):
    profile = StepProfile(tmp_path)
    fit(profile)
    (trace,) = traces(tmp_path)
    assert profile.traced == range(10, 15)
    first, heading, *rows, last = capsys.readouterr().err.strip().splitlines()
    assert first.startswith("5 steps, ")
    assert first.endswith("% of it waiting for data")
    assert heading.split() == ["operation", "share", "ms", "a", "step", "times", "a", "step"]
    assert last == f"trace of these steps: {trace.relative_to(tmp_path.parent)} in the output"
    assert sum(float(row.split("%")[0].split()[-1]) for row in rows) == pytest.approx(100, abs=1)
    times = [float(row.split()[-2]) for row in rows[:-1]]
    assert times == sorted(times, reverse=True)
    found = profiling.read(trace)
    products = sum(times for kind, (_, times) in found.items() if kind.endswith("MatMul"))
    assert products == 5 * 5  # of 5 steps: two forward, three backward
    assert all(seconds >= 0 for seconds, _ in found.values())


def test_the_first_fit_alone_is_traced(tmp_path):
    profile, trained = StepProfile(tmp_path), model()
    fit(profile, 3, model=trained)
    assert profile.traced == range(1, 3)
    assert len(traces(tmp_path)) == 1
    fit(profile, 20, model=trained)
    assert len(traces(tmp_path)) == 1


def test_one_step(tmp_path):
    fit(StepProfile(tmp_path), 1)
    assert len(traces(tmp_path)) == 1


def test_what_xla_compiled_goes_by_the_name_of_its_function(tmp_path):
    from keras_bert_app.activations import gelu_erf, in_training

    profile = StepProfile(tmp_path)
    fit(profile, model=model(in_training(gelu_erf)))
    (trace,) = traces(tmp_path)
    assert profiling.read(trace)["XLA gelu_and_slope"][1] >= 5


def test_waiting_is_seen(tmp_path, capsys):
    def slow():
        for _ in range(20):
            time.sleep(0.05)
            yield np.ones((1, 256), "float32"), np.ones((1, 1), "float32")

    model().fit(slow(), steps_per_epoch=20, verbose=0, shuffle=False, callbacks=[StepProfile(tmp_path)])
    share = float(capsys.readouterr().err.split("% of it waiting")[0].split()[-1])
    assert 50 < share <= 100


def test_training_that_breaks_off_leaves_no_trace_running(tmp_path):
    class Broken(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 11:
                raise FloatingPointError("no number")

    profile = StepProfile(tmp_path / "broken")
    with pytest.raises(FloatingPointError):
        model().fit(np.ones((20, 256)), np.ones((20, 1)), 1, verbose=0, callbacks=[profile, Broken()])
    profile.close()
    fit(StepProfile(tmp_path / "whole"))
    assert len(traces(tmp_path / "whole")) == 1


def test_other_backends(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="profile=True needs the TensorFlow backend, not jax"):
        StepProfile.check()
