"""Load on `keras-bert serve`: throughput, latency, new versions under load, memory; beside KServe.

    python benchmarks/serving.py TEXTS.jsonl.gz
    python benchmarks/serving.py TEXTS.jsonl.gz --longest 340
    python benchmarks/serving.py TEXTS.jsonl.gz --kserve ENVIRONMENT/bin/python --seconds 60 --repeats 3

It needs `wrk` (https://github.com/wg/wrk; Debian's package wrk). All servers serve the same SavedModel: the
BERT that comes with the package, with a head of two labels whose weights are random, at most 256 word pieces.
wrk sends the same texts, one in each request, over 32 connections. The sides take turns, each after some
seconds that are not counted; the median of the rounds is shown.

KServe is its Python server with a custom predictor, in an environment of its own: `pip install kserve
tensorflow tensorflow-text`. With --swap a new version comes every ten seconds while wrk runs, and the memory
of the process is printed.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

CONNECTIONS = 32
COLUMNS = ("per_second", "p50", "p99", "errors")
NAME = "reviews"
LUA = """
local bodies = {%s}
local i = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  i = i %% #bodies + 1
  return wrk.format(nil, nil, nil, bodies[i])
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("FOUND %%d %%d %%f %%f %%f\\n", summary.requests,
    e.status + e.read + e.timeout + e.connect + e.write, summary.duration / 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
"""
KSERVE = """
import sys
import tensorflow as tf, tensorflow_text
from kserve import Model, ModelServer

class Reviews(Model):
    def load(self):
        self.serve = tf.saved_model.load(sys.argv.pop(1)).signatures["serving_default"]
        self.ready = True

    def predict(self, payload, headers=None):
        found = self.serve(text=tf.constant(payload["instances"]))
        rows = {name: tensor.numpy() for name, tensor in found.items()}
        rows["label"] = [label.decode() for label in rows["label"]]
        rows["classes"] = [[name.decode() for name in names] for names in rows["classes"]]
        rows["score"], rows["probabilities"] = rows["score"].tolist(), rows["probabilities"].tolist()
        return {"predictions": [dict(zip(rows, row)) for row in zip(*rows.values())]}

model = Reviews("reviews")
model.load()
ModelServer(enable_grpc=False).start([model])
"""


def main():
    """Measures each side and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("texts", help="file of texts, as `kba.embed` takes it on the command line")
    parser.add_argument("--number", type=int, default=1000, help="texts")
    parser.add_argument("--longest", type=int, help="only texts of at most so many characters")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kserve", help="Python of an environment with KServe")
    parser.add_argument("--swap", action="store_true", help="new versions and memory instead of the table")
    args = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        script = write_script(args.texts, args.number, args.longest, folder)
        version = write_model(folder / NAME)
        (empty := folder / "session.txt").touch()
        if args.swap:
            swap(folder, script, args.seconds)
            return
        sides = {
            "keras-bert serve": ours(folder / NAME),
            "without batching": ours(folder / NAME, "--no-enable-batching"),
            "and with TensorFlow's threads": ours(
                folder / NAME, "--no-enable-batching", "--tensorflow-session-config-file", str(empty)
            ),
        }
        if args.kserve:
            sides["KServe"] = [args.kserve, "-c", KSERVE, str(version), "--http_port"]
        found = {side: [] for side in sides}
        for _ in range(args.repeats):
            for side, command in sides.items():
                with running(command) as (url, _):
                    load(url, script, 5)
                    found[side].append(load(url, script, args.seconds))
        print_table(found)


def write_script(texts, number, longest, folder):
    """A script for wrk that sends the texts."""
    from keras_bert_app.data import readers

    texts = readers.read_texts(Path(texts), "text")
    texts = [text for text in texts if longest is None or len(text) <= longest][:number]
    lengths = sorted(map(len, texts))
    half = lengths[len(lengths) // 2]
    print(f"{len(texts)} texts of {lengths[0]} to {lengths[-1]} characters, half of them up to {half}")
    bodies = ",\n".join("[====[" + json.dumps({"instances": [text]}) + "]====]" for text in texts)
    (folder / "load.lua").write_text(LUA % bodies)
    return folder / "load.lua"


def write_model(folder):
    """Path of a new version of the model."""
    import keras_bert_app as kba
    from keras_bert_app.task_model import TaskModel

    preprocessor, encoder = kba.from_pretrained()
    task = kba.TextClassification(labels=["negative", "positive"])
    model = TaskModel(task, preprocessor.replace(sequence_length=256), task.build(encoder, 0.1))
    return kba.export(model, folder)


def ours(folder, *flags):
    """The command of the server, without the port."""
    code = "from keras_bert_app.cli import main; main()"
    return [sys.executable, "-c", code, "serve", str(folder), "--no-access-log", *flags, "--port"]


@contextlib.contextmanager
def running(command):
    """Starts a server and waits until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/v1/models/{NAME}"
    try:
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(url, timeout=5).close()
                break
            if process.poll() is not None:
                raise RuntimeError(f"the server has ended with {process.returncode}: {command}")
            time.sleep(0.2)
        yield url, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def load(url, script, seconds):
    """Requests, errors, seconds, and milliseconds of half and of 99 % of them."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
    done = subprocess.run([*command, f"{url}:predict"], capture_output=True, text=True, check=True)
    requests, errors, duration, half, most = re.search(r"FOUND (.*)", done.stdout)[1].split()
    return {
        "per_second": int(requests) / float(duration),
        "errors": int(errors),
        "p50": float(half),
        "p99": float(most),
    }


def print_table(found):
    """The medians, as a Markdown table."""
    print("\n| | requests/s | p50, ms | p99, ms | errors |\n|---|---|---|---|---|")
    for side, rounds in found.items():
        medians = {name: statistics.median(row[name] for row in rounds) for name in rounds[0]}
        medians["errors"] = sum(row["errors"] for row in rounds)
        print(f"| {side} | {' | '.join(f'{medians[name]:.0f}' for name in COLUMNS)} |")


def swap(folder, script, seconds):
    """Load while a new version comes every ten seconds."""
    with running(ours(folder / NAME, "--file-system-poll-wait-seconds", "0.5")) as (url, process):
        load(url, script, 10)
        memory = [resident(process.pid)]
        ended = threading.Event()
        numbers = []

        def export_on():
            while not ended.wait(10):
                number = 2 + len(numbers)
                shutil.copytree(folder / NAME / "1", folder / f"{number}")
                os.rename(folder / f"{number}", folder / NAME / f"{number}")
                numbers.append(number)
                memory.append(resident(process.pid))

        exporting = threading.Thread(target=export_on)
        exporting.start()
        found = load(url, script, seconds)
        ended.set()
        exporting.join()
        time.sleep(3)
        memory.append(resident(process.pid))
        print(f"{len(numbers)} versions in {seconds} s: {found}")
        print(f"memory, MiB: {', '.join(f'{number:.0f}' for number in memory)}")


def resident(pid):
    """MiB of memory that a process has."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


if __name__ == "__main__":
    main()
