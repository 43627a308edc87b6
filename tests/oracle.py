"""BERT in NumPy, float64, one sequence at a time: an independent check of the encoder.

Written from the paper and from the names in a Hugging Face file; it shares nothing with the package.
"""

import math

import numpy as np

ERF = np.vectorize(math.erf)


def gelu(x):
    return x * 0.5 * (1 + ERF(x / math.sqrt(2)))


def gelu_new(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def relu(x):
    return np.maximum(x, 0)


ACTIVATIONS = {"gelu": gelu, "gelu_new": gelu_new, "relu": relu}


def bert(tensors, word_ids, mask, type_ids, heads, activation="gelu"):
    """All layers' outputs and the pooled output of one sequence.

    Args:
        tensors: dict by Hugging Face's names, kernels as (out, in).
        word_ids, mask, type_ids: `(length,)`.

    Returns:
        `([embeddings, layer 1, ...], pooled)`: `(length, hidden)` each, and `(hidden,)`.
    """
    t = {name: np.asarray(value, "float64") for name, value in tensors.items()}

    def linear(x, name):
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12)
        return x * t[f"{name}.LayerNorm.weight"] + t[f"{name}.LayerNorm.bias"]

    x = t["embeddings.word_embeddings.weight"][word_ids]
    x = x + t["embeddings.token_type_embeddings.weight"][type_ids]
    x = x + t["embeddings.position_embeddings.weight"][: len(word_ids)]
    x = norm(x, "embeddings")
    layers = [x]
    while f"encoder.layer.{len(layers) - 1}.output.dense.bias" in t:
        name = f"encoder.layer.{len(layers) - 1}"
        query, key, value = (linear(x, f"{name}.attention.self.{n}") for n in ("query", "key", "value"))
        size = x.shape[1] // heads
        contexts = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = query[:, part] @ key[:, part].T / math.sqrt(size)
            scores[:, np.asarray(mask) == 0] = -np.inf
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            contexts.append(weights / weights.sum(-1, keepdims=True) @ value[:, part])
        attended = linear(np.concatenate(contexts, -1), f"{name}.attention.output.dense")
        x = norm(x + attended, f"{name}.attention.output")
        inner = ACTIVATIONS[activation](linear(x, f"{name}.intermediate.dense"))
        x = norm(x + linear(inner, f"{name}.output.dense"), f"{name}.output")
        layers.append(x)
    return layers, np.tanh(linear(x[0], "pooler.dense"))


def random_tensors(seed=0, vocabulary=61, hidden=10, layers=3, inner=37, positions=32, types=2):
    """Tensors of a small BERT by Hugging Face's names; no two have the same values."""
    random = np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings.weight": (vocabulary, hidden),
        "embeddings.position_embeddings.weight": (positions, hidden),
        "embeddings.token_type_embeddings.weight": (types, hidden),
        "pooler.dense.weight": (hidden, hidden),
        "pooler.dense.bias": (hidden,),
    }
    norms = ["embeddings"]
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        norms += [f"{name}.attention.output", f"{name}.output"]
        for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
            shapes[f"{name}.{part}.weight"] = (hidden, hidden)
            shapes[f"{name}.{part}.bias"] = (hidden,)
        shapes[f"{name}.attention.output.dense.weight"] = (hidden, hidden)
        shapes[f"{name}.attention.output.dense.bias"] = (hidden,)
        shapes[f"{name}.intermediate.dense.weight"] = (inner, hidden)
        shapes[f"{name}.intermediate.dense.bias"] = (inner,)
        shapes[f"{name}.output.dense.weight"] = (hidden, inner)
        shapes[f"{name}.output.dense.bias"] = (hidden,)
    tensors = {name: random.normal(0, 0.3, shape) for name, shape in shapes.items()}
    for name in norms:
        tensors[f"{name}.LayerNorm.weight"] = random.uniform(0.5, 1.5, hidden)
        tensors[f"{name}.LayerNorm.bias"] = random.normal(0, 0.3, hidden)
    return {name: value.astype("float32") for name, value in tensors.items()}
