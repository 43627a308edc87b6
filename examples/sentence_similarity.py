# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sentence similarity and search
#
# A model that gives every text a vector, such that texts that mean the same have vectors that point the
# same way. With it you find the sentence that answers a question, without a single word in common.
#
# The package must be installed. In Colab, upload or clone the project's folder and run
# `%pip install ./keras_bert_app` (the folder with `setup.cfg`) in a cell of its own.

# %%
import io
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

import keras_bert_app as kba

# %% [markdown]
# ## A model that can do it already
#
# MiniLM was trained by sentence-transformers with a billion pairs. Its pooling and its length are read
# with it.

# %%
MODEL = Path("all-MiniLM-L6-v2")
if not MODEL.exists():
    from huggingface_hub import snapshot_download

    files = ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"]
    files += ["modules.json", "sentence_bert_config.json", "1_Pooling/config.json"]
    snapshot_download("sentence-transformers/all-MiniLM-L6-v2", local_dir=MODEL, allow_patterns=files)

model = kba.load(MODEL, task="sentence-similarity")
print(model.task)

# %%
pairs = [
    ("A man is playing a guitar.", "Somebody plays an instrument."),
    ("A man is playing a guitar.", "The stock market fell today."),
]
for (first, second), answer in zip(pairs, model(pairs), strict=True):
    print(f"{answer['similarity']:.2f}  {first} | {second}")

# %% [markdown]
# ## Search
#
# The vectors of all texts are computed once. A query is compared with each of them: exactly, not with an
# approximate index; a million vectors take a second.

# %%
CORPUS = [
    "To reset your password, open the settings and choose Security.",
    "Our offices are closed on public holidays.",
    "Refunds are paid within ten days to the card that was charged.",
    "The battery lasts about eight hours with normal use.",
    "Children under six travel free of charge.",
    "The museum is open from nine to five, except on Mondays.",
]
QUESTIONS = ["I forgot how to log in", "When do I get my money back?", "Do kids need a ticket?"]
vectors = kba.embed(CORPUS, model)
np.save("corpus.npy", vectors)
scores, rows = kba.search(kba.embed(QUESTIONS, model), np.load("corpus.npy", mmap_mode="r"), k=2)
for question, found, values in zip(QUESTIONS, rows, scores, strict=True):
    print(question)
    for row, value in zip(found, values, strict=True):
        print(f"  {value:.2f}  {CORPUS[row]}")

# %% [markdown]
# ## How good is it, and can it be better?
#
# The STS benchmark (Cer et al., 2017) has pairs of sentences with a score from 0, nothing in common, to
# 5, the same meaning, given by people. The rank correlation of cosines and scores says how well the model
# agrees with them. It is downloaded once (0.8 MB).

# %%
URL = "https://dl.fbaipublicfiles.com/glue/data/STS-B.zip"
if not Path("STS-B").exists():
    with urllib.request.urlopen(URL) as answer:
        zipfile.ZipFile(io.BytesIO(answer.read())).extractall()
columns = {"text": "sentence1", "pair": "sentence2", "label": "score"}
report = model.evaluate("STS-B/dev.tsv", columns=columns)
print(f"before: Spearman {report['spearman']:.3f}")

# %%
trained = kba.finetune(
    "sentence-similarity",
    "STS-B/train.tsv",
    model=MODEL,
    output="runs/similarity",
    epochs=1,
    columns=columns,
)
report = trained.evaluate("STS-B/dev.tsv", columns=columns)
print(f"after: Spearman {report['spearman']:.3f}")
print(trained.task.show(report)[:600])

# %% [markdown]
# ## Serving
#
# The SavedModel takes text and gives vectors; a second signature takes pairs.

# %%
path = kba.export(trained, "saved_models/similarity")
served = tf.saved_model.load(str(path)).signatures
print(served["serving_default"](text=tf.constant(CORPUS[:2]))["embedding"].shape)
print(served["similarity"](text=tf.constant(QUESTIONS[:1]), text_pair=tf.constant(CORPUS[:1])))
