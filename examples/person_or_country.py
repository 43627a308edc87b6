# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Person or country?
#
# The smallest classifier there is: it reads a single name and says whether it is of a person or of a
# country. A few dozen examples are enough, because BERT has read about both before: it is right about
# names that are not among the examples.
#
# The package must be installed. In Colab, upload or clone the project's folder and run
# `%pip install ./keras_bert_app` (the folder with `setup.cfg`) in a cell of its own.

# %%
from pathlib import Path

import keras_bert_app as kba

# %%
MODEL = Path("all-MiniLM-L6-v2")
if not MODEL.exists():
    from huggingface_hub import snapshot_download

    files = ["config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"]
    snapshot_download("sentence-transformers/all-MiniLM-L6-v2", local_dir=MODEL, allow_patterns=files)

# %% [markdown]
# ## The examples

# %%
# fmt: off
PERSONS = [
    "Alice", "Bob", "Carlos", "Diana", "Emma", "Felix", "Grace", "Hannah", "Ivan", "Julia", "Kevin",
    "Laura", "Martin", "Nina", "Oscar", "Paula", "Quentin", "Rachel", "Samuel", "Teresa", "Ursula",
    "Victor", "Wendy", "Xavier",
]
COUNTRIES = [
    "Argentina", "Brazil", "Canada", "Denmark", "Egypt", "France", "Germany", "Hungary", "India",
    "Japan", "Kenya", "Libya", "Mexico", "Norway", "Oman", "Peru", "Qatar", "Romania", "Spain",
    "Turkey", "Uganda", "Vietnam", "Yemen", "Zambia",
]
# fmt: on
rows = [(name, "person") for name in PERSONS] + [(name, "country") for name in COUNTRIES]

# %% [markdown]
# ## What BERT sees
#
# A name is one word piece if the vocabulary has it, and several if not.

# %%
preprocessor, encoder = kba.from_pretrained(MODEL, sequence_length=16)
for name in ("Alice", "Zambia", "Kyrgyzstan"):
    ids = preprocessor([name])["input_word_ids"].numpy()[0]
    print(name, [preprocessor.tokenizer.id_to_token(index) for index in ids])

# %% [markdown]
# ## Fine-tuning

# %%
model = kba.finetune(
    "text-classification",
    rows,
    model=(preprocessor, encoder),
    output="runs/person_or_country",
    epochs=10,
    batch_size=8,
    learning_rate=1e-4,
)

# %% [markdown]
# ## Names that it has not seen

# %%
# fmt: off
NEW = [
    ("Robert", "person"), ("Sophia", "person"), ("Thomas", "person"), ("Monica", "person"),
    ("Peter", "person"), ("Angela", "person"), ("Stephen", "person"), ("Maria", "person"),
    ("Sweden", "country"), ("Portugal", "country"), ("Chile", "country"), ("Pakistan", "country"),
    ("Iceland", "country"), ("Nigeria", "country"), ("Poland", "country"), ("Kyrgyzstan", "country"),
]
# fmt: on
for (name, label), answer in zip(NEW, model([name for name, _ in NEW]), strict=True):
    print(f"{name:12}{answer['label']:9}{answer['score']:.2f}{'' if answer['label'] == label else '  wrong'}")
print(f"accuracy {model.evaluate(NEW)['accuracy']:.2f}")

# %% [markdown]
# Some names are both. What does the model say of these, and of a whole sentence?

# %%
for name in ("Jordan", "Georgia", "Chad", "I was born there."):
    print(name, model(name)[0]["scores"])
