# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Named entities: who, where and what, with the characters
#
# Fine-tune a BERT to find persons, places, groups and works in text, and get them as slices of the text
# that you gave, in Python and from the exported model.
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
# WNUT-17 (Derczynski et al., 2017): tweets and comments with entities that are new and rare, which makes
# it hard: the best systems of its year reached an F1 of 0.42 on its test part. It is downloaded once
# (0.6 MB). A CoNLL file has a word and its tag on each line, and an empty line between sentences.

# %%
URL = "https://raw.githubusercontent.com/leondz/emerging_entities_17/master/"
for name, source in (("wnut-train.conll", "wnut17train.conll"), ("wnut-dev.conll", "emerging.dev.conll")):
    if not Path(name).exists():
        urllib.request.urlretrieve(URL + source, name)
print(Path("wnut-train.conll").read_text(encoding="utf-8")[:200])

# %% [markdown]
# ## Fine-tuning
#
# The first piece of each word learns its tag. The epoch with the best F1 of whole entities is kept, as
# conlleval counts them.

# %%
tagger = kba.finetune(
    "token-classification",
    "wnut-train.conll",
    "wnut-dev.conll",
    model=MODEL,
    output="runs/entities",
    learning_rate=2e-4,
)

# %%
report = tagger.evaluate("wnut-dev.conll")
print(tagger.task.show(report))

# %% [markdown]
# ## Entities of a text
#
# `text[start:end]` is the entity. The score is the mean probability of its words.

# %%
TEXT = "Anna Merkel met Tim Cook in Cupertino, then flew to New York City to see Hamlet."
for entity in tagger(TEXT)[0]["entities"]:
    assert TEXT[entity["start"] : entity["end"]] == entity["text"]
    print(entity)

# %% [markdown]
# ## A model to serve
#
# The exported model splits the words itself and gives the same, in arrays with a count.

# %%
path = kba.export(tagger, "saved_models/entities")
served = tf.saved_model.load(str(path)).signatures["serving_default"]
found = served(text=tf.constant([TEXT, "nothing here"]))
print({name: tensor.numpy().tolist() for name, tensor in found.items()})
