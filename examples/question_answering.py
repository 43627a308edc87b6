# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Question answering: the answer, and where it stands
#
# Fine-tune a BERT to find the answer to a question in a text. The answer is always a slice of the text.
#
# The package must be installed. In Colab, upload or clone the project's folder and run
# `%pip install ./keras_bert_app` (the folder with `setup.cfg`) in a cell of its own.

# %%
import urllib.request
from pathlib import Path

import tensorflow as tf

import keras_bert_app as kba

# %%
MODEL = Path("all-MiniLM-L6-v2")
if not MODEL.exists():
    from huggingface_hub import snapshot_download

    files = ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"]
    snapshot_download("sentence-transformers/all-MiniLM-L6-v2", local_dir=MODEL, allow_patterns=files)

# %% [markdown]
# ## The data
#
# SQuAD 1.1 (Rajpurkar et al., 2016): questions about paragraphs of Wikipedia, whose answers are spans of
# them. It is downloaded once (35 MB). 6,000 questions for training and 1,000 for testing are enough to see
# it work; take all, `train-v1.1.json`, for a good model.

# %%
URL = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"
parts = {}
for part, number in (("train", 6000), ("dev", 1000)):
    path = Path(f"{part}-v1.1.json")
    if not path.exists():
        urllib.request.urlretrieve(URL + path.name, path)
    parts[part] = kba.QuestionAnswering().read(path, columns={})[:number]
(question, context), target = parts["train"][0]
print(question, target["answers"], context[:300], sep="\n")

# %% [markdown]
# ## Fine-tuning
#
# A context that does not fit is read in windows that overlap. The model learns where the answer starts
# and where it ends.

# %%
reader = kba.finetune(
    "question-answering",
    parts["train"],
    model=MODEL,
    output="runs/answers",
    sequence_length=256,
    epochs=2,
    learning_rate=1e-4,
)

# %%
report = reader.evaluate(parts["dev"])
print(reader.task.show(report)[:1500])

# %% [markdown]
# ## Answers
#
# `context[start:end]` is the answer; `candidates` has the next best.

# %%
CONTEXT = (
    "The lighthouse was built in 1871 by the engineer Robert Hale. It stood empty for thirty years, until "
    "a painter from Lisbon bought it and made it her studio."
)
QUESTIONS = ["When was the lighthouse built?", "Who built it?", "Where did the painter come from?"]
for question, answer in zip(QUESTIONS, reader([(q, CONTEXT) for q in QUESTIONS]), strict=True):
    assert CONTEXT[answer["start"] : answer["end"]] == answer["answer"]
    print(f"{question} {answer['answer']} ({answer['score']:.2f})")

# %% [markdown]
# ## A model to serve
#
# The exported model takes questions and contexts as text.

# %%
path = kba.export(reader, "saved_models/answers")
served = tf.saved_model.load(str(path)).signatures["serving_default"]
found = served(question=tf.constant(QUESTIONS[:1]), context=tf.constant([CONTEXT]))
print({name: tensor.numpy().tolist() for name, tensor in found.items()})
