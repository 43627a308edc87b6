# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Movie reviews: from text to a model that can be served
#
# Fine-tune a small pretrained BERT to tell good reviews from bad ones, look at its mistakes,
# export it as a SavedModel that takes text, and ask that model.
#
# The package must be installed. In Colab, upload or clone the project's folder and run
# `%pip install ./keras_bert_app` (the folder with `setup.cfg`) in a cell of its own. On two
# processor cores the whole notebook takes about a quarter of an hour, on Colab's GPU less.

# %%
import random
from pathlib import Path

import keras
import tensorflow as tf

import keras_bert_app as kba

# %% [markdown]
# ## The data
#
# The Large Movie Review Dataset of Stanford (Maas et al., 2011): 25,000 labelled reviews for
# training and as many for testing. It is downloaded once (84 MB), unless the folder `aclImdb`
# is here. 5,000 reviews of each part are enough for this notebook.

# %%
DATA = Path("aclImdb")
train, test = kba.load_imdb(DATA if DATA.exists() else None)
random.seed(0)
train = random.sample(train, min(5000, len(train)))
test = random.sample(test, min(5000, len(test)))
print(len(train), "reviews, the first one:", train[0])

# %% [markdown]
# ## A pretrained BERT
#
# MiniLM is a BERT of six layers, small enough for a laptop. (A smaller one comes with the package:
# `kba.from_pretrained(sequence_length=128)`.)

# %%
MODEL = Path("all-MiniLM-L6-v2")
if not MODEL.exists():
    from huggingface_hub import snapshot_download

    files = ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"]
    snapshot_download("sentence-transformers/all-MiniLM-L6-v2", local_dir=MODEL, allow_patterns=files)

preprocessor, encoder = kba.from_pretrained(MODEL, sequence_length=128)

# %% [markdown]
# ## What BERT sees
#
# The preprocessor splits the text into word pieces, puts `[CLS]` before and `[SEP]` behind it,
# and says which positions are real (`input_mask`) and to which of two texts they belong
# (`input_type_ids`).

# %%
inputs = preprocessor((["A great film!"], ["Not my taste."]))
for name, tensor in inputs.items():
    print(f"{name:16}", tensor.numpy()[0])
print([preprocessor.tokenizer.id_to_token(i) for i in inputs["input_word_ids"].numpy()[0]])

# %% [markdown]
# The encoder gives a vector for the whole text, one for each word piece, and those of every layer.

# %%
outputs = encoder(inputs)
print("pooled_output  ", outputs["pooled_output"].shape)
print("sequence_output", outputs["sequence_output"].shape)
print("encoder_outputs", len(outputs["encoder_outputs"]), "layers")

# %% [markdown]
# Preprocessor and encoder are Keras layers: they compose.

# %%
text = keras.Input(shape=(), dtype="string")
logits = keras.layers.Dense(2)(encoder(preprocessor(text))["pooled_output"])
model = keras.Model(text, logits)
print(model(tf.constant(["A great film!"])))

# %% [markdown]
# ## Fine-tuning
#
# AdamW with warm-up and linear decay, batches at random. The run folder holds
# the model, the history and a picture of it. If this cell is interrupted and run again, the
# training goes on where it was.

# %%
classifier = kba.finetune(
    "text-classification",
    train,
    model=MODEL,
    sequence_length=128,
    output="runs/movie_reviews",
    epochs=3,
)

# %% [markdown]
# ## How good is it, and where is it wrong?

# %%
report = classifier.evaluate(test)
print(f"accuracy {report['accuracy']:.3f}")
print("confusion matrix", report["confusion_matrix"])
for mistake in report["worst_mistakes"][:3]:
    print(f"\n{mistake['label']} taken for {mistake['predicted']} ({mistake['score']:.2f})")
    print(mistake["text"][:300])

# %%
classifier(["I laughed, I cried, I bought a second ticket.", "Two hours that I will not get back."])

# %% [markdown]
# ## A model to serve
#
# The SavedModel takes text; the preprocessing is inside. TensorFlow Serving loads it as it is.
# In Python its operations need `import tensorflow_text`, which this package has done.

# %%
path = kba.export(classifier, "saved_models/movie_reviews")
served = tf.saved_model.load(str(path)).signatures["serving_default"]
answer = served(text=tf.constant(["A warm and funny film."]))
print(path, {name: tensor.numpy().tolist() for name, tensor in answer.items()})
