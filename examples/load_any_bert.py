# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Load any BERT, look inside, take it elsewhere
#
# Two sentences go through a preprocessor and an encoder, and every step is printed. Then the same
# BERT is written as a pair of TF-Hub models and as a Hugging Face folder, and read back.
#
# The package must be installed. In Colab, upload or clone the project's folder and run
# `%pip install ./keras_bert_app` (the folder with `setup.cfg`) in a cell of its own.

# %%
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  # its operations are in the preprocessing model

import keras_bert_app as kba

# %% [markdown]
# ## A BERT from anywhere
#
# A handle is a short name of one of Google's published BERTs (`keras-bert models` lists them), an
# address, or a folder or archive on this computer. All of these load in the same way:
#
#     kba.from_pretrained("bert_base_en_uncased")
#     kba.from_pretrained("https://tfhub.dev/tensorflow/bert_en_uncased_L-12_H-768_A-12/4")
#     kba.from_pretrained("kaggle://keras/bert/keras/bert_base_en_uncased/3")
#     kba.from_pretrained("hf://google-bert/bert-base-uncased")
#     kba.from_pretrained("uncased_L-12_H-768_A-12.zip")
#
# Here it is MiniLM, which is small: the folder, if it is here, or else a download of 91 MB.

# %%
folder = Path("all-MiniLM-L6-v2")
handle = folder if folder.exists() else "hf://sentence-transformers/all-MiniLM-L6-v2"
preprocessor, encoder = kba.from_pretrained(handle, output_attentions=True)

# %% [markdown]
# ## What the preprocessor makes of text
#
# `input_word_ids` are the word pieces, between [CLS] and [SEP]; `input_mask` is 1 where a piece is
# real and 0 where it only fills the row; `input_type_ids` tell two texts of a pair apart.

# %%
sentences = ["nice movie indeed", "I love python programming"]
inputs = preprocessor(sentences)
print("keys     ", list(inputs))
print("shape    ", inputs["input_word_ids"].shape)
print("word ids ", inputs["input_word_ids"].numpy().tolist())
print("mask     ", inputs["input_mask"].numpy().tolist())
print("type ids ", inputs["input_type_ids"].numpy().tolist())
for row in inputs["input_word_ids"].numpy():
    print("pieces   ", [preprocessor.tokenizer.id_to_token(int(i)) for i in row])

# %% [markdown]
# ## What the encoder makes of that
#
# `pooled_output` is one vector for each sentence, `sequence_output` one for each piece, and
# `encoder_outputs` the same after every layer: the last of them is the `sequence_output`.

# %%
outputs = encoder(inputs)
print("keys             ", list(outputs))
print("pooled_output    ", outputs["pooled_output"].shape)
print("sequence_output  ", outputs["sequence_output"].shape)
print("encoder_outputs  ", len(outputs["encoder_outputs"]), "layers")
same = np.array_equal(outputs["encoder_outputs"][-1], outputs["sequence_output"])
print("the last of encoder_outputs is sequence_output:", same)

# %% [markdown]
# With `output_attentions=True` there is also how much each piece attends to each, for every layer
# and head. Each row sums to 1, and nothing attends to padding.

# %%
attentions = outputs["attentions"]
print(len(attentions), "layers of", attentions[0].shape, "(batch, heads, length, length)")
print("of the first sentence, first layer, first head:")
print(np.round(attentions[0][0, 0], 2))

# %% [markdown]
# ## The same BERT for other programs
#
# `save_checkpoint` writes it for TF-Hub, Hugging Face Transformers, KerasHub and Google's own code. A
# TF-Hub pair is two SavedModels that run without this package.

# %%
shutil.rmtree("exported", ignore_errors=True)  # of an earlier run
kba.save_checkpoint(encoder, "exported/tfhub", "tfhub", preprocessor)

preprocess = tf.saved_model.load("exported/tfhub/preprocess")
encode = tf.saved_model.load("exported/tfhub/encoder")
again = encode(preprocess(tf.constant(sentences)))
difference = np.abs(again["pooled_output"] - outputs["pooled_output"]).max()
print("keys of TF-Hub's interface:", sorted(again))
print(f"largest difference of pooled_output: {difference:.1e}")

# %% [markdown]
# `convert` does it in one call, from any format to any, and measures what it changed. On the command
# line it is `keras-bert convert exported/tfhub exported/huggingface --format huggingface`.

# %%
print(kba.convert("exported/tfhub", "exported/huggingface", "huggingface"))
