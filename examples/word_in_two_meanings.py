# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A word in two meanings: "fair"
#
# A fair judge and a fair with a big wheel: one word, two meanings. A table of word vectors, such as
# word2vec's or the first layer of BERT, has one vector for both. BERT's later layers have read the
# sentence, and give the word another vector in each.
#
# The package must be installed. In Colab, upload or clone the project's folder and run
# `%pip install ./keras_bert_app` (the folder with `setup.cfg`) in a cell of its own.

# %%
from pathlib import Path

import numpy as np

import keras_bert_app as kba

# %%
MODEL = Path("all-MiniLM-L6-v2")
if not MODEL.exists():
    from huggingface_hub import snapshot_download

    files = ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"]
    snapshot_download("sentence-transformers/all-MiniLM-L6-v2", local_dir=MODEL, allow_patterns=files)

preprocessor, encoder = kba.from_pretrained(MODEL)

# %% [markdown]
# Six sentences: in the first three "fair" is just, in the last three it is a place to go.

# %%
SENTENCES = [
    "The judge was strict but fair.",
    "It is only fair to pay everybody the same.",
    "She thought that the rules were not fair.",
    "We went to the fair and rode the big wheel.",
    "The book fair opens on Wednesday.",
    "Farmers sold their cattle at the county fair.",
]


def vectors_of(word, sentences, **options):
    """The vector of `word` in each sentence, `(sentences, hidden)`."""
    found = kba.embed_words(sentences, (preprocessor, encoder), **options)
    return np.stack([one["vectors"][one["words"].index(word)] for one in found])


def cosines(vectors):
    """How alike the vectors are, `(vectors, vectors)`."""
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


def averages(matrix):
    """The average cosine of two sentences of one meaning, and of two meanings."""
    pairs = [(i, j) for i in range(6) for j in range(i)]
    same = [matrix[pair] for pair in pairs if (pair[0] < 3) == (pair[1] < 3)]
    other = [matrix[pair] for pair in pairs if (pair[0] < 3) != (pair[1] < 3)]
    return np.mean(same), np.mean(other)


def show(matrix):
    """Prints a row for each sentence."""
    for sentence, row in zip(SENTENCES, matrix, strict=True):
        print(" ".join(f"{value:5.2f}" for value in row), "", sentence)


# %% [markdown]
# ## The fixed vector
#
# The table of word embeddings has one row for "fair", whatever stands around it: all cosines are 1.

# %%
table = encoder.get_layer("word_embeddings").get_weights()[0]
fair = preprocessor.tokenizer.token_to_id("fair")
show(cosines(np.stack([table[fair]] * len(SENTENCES))))

# %% [markdown]
# ## The contextual vectors
#
# The sum of the last four layers, which BERT's authors found to be good features of words. The three
# just ones are close to each other, and so are the three places.

# %%
alike = cosines(vectors_of("fair", SENTENCES, layers=(-4, -3, -2, -1)))
show(alike)
print("one meaning: {:.2f} on average, two meanings: {:.2f}".format(*averages(alike)))

# %% [markdown]
# ## Layer by layer
#
# The lower layers hardly tell the two apart; the difference grows from layer to layer.

# %%
number = len(encoder.output["encoder_outputs"])
joined = vectors_of("fair", SENTENCES, layers=range(number), combine="concat")
for layer, vectors in enumerate(np.split(joined, number, axis=1), start=1):
    same, other = averages(cosines(vectors))
    print(f"layer {layer} of {number}: one meaning {same:.2f}, two meanings {other:.2f}")
