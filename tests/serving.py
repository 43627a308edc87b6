"""Starts servers and asks them."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from conftest import ROOT


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@contextlib.contextmanager
def server(*arguments, log=None):
    """A `keras-bert serve` in a process of its own; gives the process, with its `url`, once it is ready."""
    port = free_port()
    code = "from keras_bert_app.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--port", port, *arguments]
    with open(log or os.devnull, "wb") as output:
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT / "tests", stdout=output, stderr=output)
        process.url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: process.poll() is not None or ask(f"{process.url}/readyz")[0] == 200)
            assert process.poll() is None, f"the server has ended with {process.returncode}"
            yield process
        finally:
            process.kill()
            process.wait()


def wait_until(done, seconds=120):
    """Waits until `done()` is true."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"it has not happened within {seconds} seconds"
        time.sleep(0.05)


def ask(url, body=None, **headers):
    """Status and JSON, or bytes, of a reply; status 0 if there is no server."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            status, found = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            status, found = error.code, error.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return 0, b""
    try:
        return status, json.loads(found)
    except ValueError:
        return status, found


def save_model(folder, **signatures):
    """A SavedModel of functions, each with its input signature as `tf.function` has it."""
    import tensorflow as tf

    module = tf.Module()
    for name, function in signatures.items():
        setattr(module, name, function)
    temporary = folder.parent / f"{folder.name}.part"
    tf.saved_model.save(module, str(temporary), signatures=signatures)
    os.rename(temporary, folder)
    return folder


def add_model(folder, number):
    """A SavedModel that adds a number to each of `x`, float32 `(batch,)`."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def add(x):
        return {"y": x + number}

    return save_model(folder, serving_default=add)
