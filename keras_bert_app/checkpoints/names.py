"""What every variable of the encoder is called in each checkpoint format."""

import re

# Rows of (pattern of our variable path, name in the checkpoint, transposed). Hugging Face
# keeps the kernels of its linear layers as (out, in), Keras as (in, out).
HUGGINGFACE = (
    (r"word_embeddings/embeddings", "embeddings.word_embeddings.weight", False),
    (r"position_embeddings/embeddings", "embeddings.position_embeddings.weight", False),
    (r"type_embeddings/embeddings", "embeddings.token_type_embeddings.weight", False),
    (r"embeddings_norm/gamma", "embeddings.LayerNorm.weight", False),
    (r"embeddings_norm/beta", "embeddings.LayerNorm.bias", False),
    (r"layer_(\d+)/attention/(query|key|value)/kernel", r"encoder.layer.\1.attention.self.\2.weight", True),
    (r"layer_(\d+)/attention/(query|key|value)/bias", r"encoder.layer.\1.attention.self.\2.bias", False),
    (r"layer_(\d+)/attention/output/kernel", r"encoder.layer.\1.attention.output.dense.weight", True),
    (r"layer_(\d+)/attention/output/bias", r"encoder.layer.\1.attention.output.dense.bias", False),
    (r"layer_(\d+)/attention_norm/gamma", r"encoder.layer.\1.attention.output.LayerNorm.weight", False),
    (r"layer_(\d+)/attention_norm/beta", r"encoder.layer.\1.attention.output.LayerNorm.bias", False),
    (r"layer_(\d+)/(intermediate|output)/kernel", r"encoder.layer.\1.\2.dense.weight", True),
    (r"layer_(\d+)/(intermediate|output)/bias", r"encoder.layer.\1.\2.dense.bias", False),
    (r"layer_(\d+)/output_norm/gamma", r"encoder.layer.\1.output.LayerNorm.weight", False),
    (r"layer_(\d+)/output_norm/beta", r"encoder.layer.\1.output.LayerNorm.bias", False),
    (r"pooler/kernel", "pooler.dense.weight", True),
    (r"pooler/bias", "pooler.dense.bias", False),
)


def source_name(path, table):
    """The name in the checkpoint of the encoder's variable `path`, and if it is transposed there.

    Args:
        path: a Keras variable's path, such as `"layer_3/output_norm/gamma"`.
        table: one of this module's tables.

    Returns:
        `(name, transposed)`.

    Raises:
        KeyError: the table has no row for `path`.
    """
    for pattern, name, transposed in table:
        match = re.fullmatch(pattern, path)
        if match:
            return match.expand(name), transposed
    raise KeyError(f"no name for the variable {path}")
