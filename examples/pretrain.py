# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Pretrain a BERT of your own
#
# A vocabulary is learned from text, the text becomes examples, a small BERT learns to guess hidden
# words and whether two passages belong together, and answers. The text is a few hundred short movie
# reviews that come with the package: enough to see how it works, in two minutes on a laptop. With your
# own text the same lines make a BERT that is good for something; they are `keras-bert vocab`, `prepare`
# and `pretrain` on the command line.
#
# The package must be installed. In Colab, upload or clone the project's folder and run
# `%pip install ./keras_bert_app` (the folder with `setup.cfg`) in a cell of its own.

# %%
import json
import os
import tempfile
from pathlib import Path

import keras_bert_app as kba

work = Path(tempfile.mkdtemp())
train, test = kba.load_sample()
with open(work / "reviews.jsonl", "w", encoding="utf-8") as file:
    for text, _ in train:  # the labels are not used
        file.write(json.dumps({"text": text}) + "\n")

# %% [markdown]
# ## A vocabulary
#
# Frequent words become one piece, rare ones several.

# %%
kba.train_vocabulary(work / "reviews.jsonl", output=work / "vocab.txt", size=2000)
preprocessor = kba.BertPreprocessor(work / "vocab.txt", sequence_length=64, padding="max_length")
vocabulary = preprocessor.tokenizer.vocabulary
ids = preprocessor.tokenizer("An unforgettable performance!").to_list()[0]
print(len(vocabulary), "pieces:", [vocabulary[i] for i in ids])

# %% [markdown]
# ## What a masked language model learns from
#
# 15 % of the pieces are selected, whole words at a time. Of these 80 % become `[MASK]`, 10 % another piece
# by chance, and 10 % stay as they are, so that the model cannot trust any piece. The selected ones are
# to be guessed. Every call selects others.

# %%
masker = kba.MaskedLMMasker(vocabulary, seed=7)
masked = masker(preprocessor([train[0][0]]))
print(" ".join(vocabulary[i] for i in masked["input_word_ids"][0] if i))
for position, piece, weight in zip(
    *(masked[f"masked_lm_{name}"][0].numpy() for name in ("positions", "ids", "weights")), strict=True
):
    if weight:
        print(f"{position:4} {vocabulary[piece]}")

# %% [markdown]
# ## Examples
#
# Pairs of passages: in about half of them the second is what follows the first, in the others it comes from
# another review. They are kept unmasked in TFRecord shards, with a manifest of what is in them.

# %%
counts = kba.prepare_examples(
    work / "reviews.jsonl", work / "vocab.txt", work / "examples", sequence_length=64, duplicates=5,
    validation_share=0.1,
)  # fmt: skip
print(counts)

# %% [markdown]
# ## Pretraining
#
# A BERT of two layers. If the process is killed, the same call goes on where it was. `STEPS` is there to
# try the notebook with fewer.

# %%
config = kba.BertConfig(
    vocab_size=len(vocabulary), hidden_size=128, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=512, max_position_embeddings=64,
)  # fmt: skip
steps = int(os.environ.get("STEPS", "900"))
kba.pretrain(
    work / "examples", model=config, vocabulary=work / "vocab.txt", output=work / "bert",
    stages=[(64, steps, 32)], learning_rate=2e-3, warmup=0.1, dropout=0.0, validate_every=steps // 3,
)  # fmt: skip
for row in json.loads((work / "bert" / "history.json").read_text()):
    print({name: round(row[name], 3) for name in ("step", "mlm_accuracy", "validation_mlm_accuracy")})

# %% [markdown]
# ## Answers
#
# Words for `[MASK]`, and whether a second passage follows the first. So little text teaches hardly more than
# which words are frequent, and in some places, such as before a "t", which one fits; the rest takes a
# corpus.

# %%
fill_mask = kba.load(work / "bert", task="fill-mask")
for answer in fill_mask(["I didn[MASK]t laugh once.", "A disappointing [MASK]."], top_k=3):
    for guess in answer["masks"][0]:
        print(f"{guess['score']:.3f} {guess['text']}")

next_sentence = kba.load(work / "bert", task="next-sentence")
print(next_sentence([("I wanted to love it.", "Sadly, the charm wears off.")]))

# %% [markdown]
# ## What more text gives
#
# `bert_mini_reviews`, which comes with the package, was made by the same calls from 75,000 reviews and ten
# novels, in hours instead of minutes.

# %%
fill_mask = kba.load(task="fill-mask")
for answer in fill_mask(["I fell [MASK] halfway through.", "The plot makes no [MASK] at all."], top_k=3):
    for guess in answer["masks"][0]:
        print(f"{guess['score']:.3f} {guess['text']}")

# %% [markdown]
# ## On to a task
#
# The folder is a checkpoint as any other: `from_pretrained`, `finetune` and Hugging Face's Transformers
# read it.

# %%
preprocessor, encoder = kba.from_pretrained(work / "bert")
print(encoder(preprocessor(["A warm and funny film."]))["pooled_output"].shape)
