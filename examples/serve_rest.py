# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A model behind a REST endpoint
#
# Export a fine-tuned model, serve it, ask it from anywhere, and put a new version in its place while
# requests run. The server speaks TensorFlow Serving's REST contract: what works here works there.
#
# The package must be installed. In Colab, upload or clone the project's folder and run
# `%pip install ./keras_bert_app` (the folder with `setup.cfg`) in a cell of its own.

# %%
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import keras_bert_app as kba
from keras_bert_app import inspecting

# %% [markdown]
# ## A model
#
# From the 200 sample reviews, in a minute; for a better one see the notebook on movie reviews.

# %%
train, test = kba.load_sample()
STEPS = int(os.environ.get("STEPS", len(train)))
model = kba.finetune(
    "text-classification",
    train[:STEPS],
    output="runs/served",
    epochs=6,
    batch_size=16,
    learning_rate=5e-4,
)
path = kba.export(model, "saved_models/served")
print(path)

# %% [markdown]
# The folder is all that a server needs: the tokenizer is in the graph, so it takes text.

# %%
print(inspecting.show(kba.inspect("saved_models/served")))

# %% [markdown]
# ## A server
#
# In a terminal it is `keras-bert serve saved_models/served`. TensorFlow Serving takes the same folder:
#
# ```sh
# docker run -p 8501:8501 -v "$PWD/saved_models/served:/models/served" -e MODEL_NAME=served tensorflow/serving
# ```

# %%
PORT = int(os.environ.get("PORT", "8501"))
command = "from keras_bert_app.cli import main; main()"  # what keras-bert does
flags = ["saved_models/served", "--port", str(PORT), "--file-system-poll-wait-seconds", "0.2"]
with open("server.log", "w") as log:
    server = subprocess.Popen([sys.executable, "-c", command, "serve", *flags], stdout=log, stderr=log)


def is_ready():
    """True if the server says so."""
    try:
        return urllib.request.urlopen(f"http://localhost:{PORT}/readyz").status == 200
    except OSError:
        return False


while not is_ready():
    assert server.poll() is None, Path("server.log").read_text()
    time.sleep(0.1)

# %% [markdown]
# ## Ask it
#
# With curl, as from any language:

# %%
url = f"http://localhost:{PORT}/v1/models/served"
body = '{"instances": ["A warm and funny film.", "A dull and boring waste of time."]}'
done = subprocess.run(["curl", "--silent", "--data", body, f"{url}:predict"], capture_output=True, text=True)
print(done.stdout)

# %% [markdown]
# In Python, with batches, timeouts, and another try when the server is busy:

# %%
client = kba.serving.Client(url)
texts = [text for text, _ in test]
answers = client.predict(texts)
right = sum(answer["label"] == label for answer, (_, label) in zip(answers, test, strict=True))
print(f"{right} of {len(texts)} right")
print(answers[0])

# %% [markdown]
# ## A new version while requests run
#
# Export again: the next number is written whole, and the server finds it. It loads it, sends what comes
# to it, and lets the old one go when the last request that uses it is answered.

# %%
ended = threading.Event()
asked = []


def ask_on():
    """Asks until it is told to end."""
    while not ended.is_set():
        asked.append(client.predict(texts[:2]))


asking = threading.Thread(target=ask_on)
asking.start()
print(kba.export(model, "saved_models/served"))
while (client.status()[0]["version"], client.status()[0]["state"]) != ("2", "AVAILABLE"):
    time.sleep(0.1)
time.sleep(1)
ended.set()
asking.join()
print(f"{len(asked)} requests while version 2 was swapped in, none failed")
print(client.status())

# %% [markdown]
# ## The end
#
# Told to end, the server says at `/readyz` that it is not ready, so that a load balancer goes elsewhere;
# it answers what it has taken, and exits with 0.

# %%
server.terminate()
print("exit code", server.wait())
