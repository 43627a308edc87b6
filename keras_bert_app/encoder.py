"""The BERT encoder as a plain functional `keras.Model`."""

import keras

from keras_bert_app import activations, layers
from keras_bert_app.config import BertConfig
from keras_bert_app.dropout import Dropout
from keras_bert_app.normalization import LayerNorm

ACTIVATIONS = {
    "gelu": activations.gelu_erf,
    "gelu_new": activations.gelu_tanh,
    "relu": keras.activations.relu,
}

# The layers with the weights of the embeddings.
EMBEDDINGS = ("word_embeddings", "position_embeddings", "type_embeddings", "embeddings_norm")


def bert_encoder(config, dtype=None, output_attentions=False, rematerialize=False):
    """A BERT encoder with fresh weights.

    Args:
        config: `BertConfig`.
        dtype: Keras dtype policy of every layer, such as `"float32"` or
            `"mixed_bfloat16"`. Defaults to `keras.config.dtype_policy()`.
        output_attentions: True to return also `attentions`.
        rematerialize: True to keep only the input of each block for the backward pass of a
            training step, which computes the rest a second time: less memory, about a third more
            time, the same result. Only on JAX with a CPU it saves no memory.

    Returns:
        A functional `keras.Model`. It takes a dict of int32 tensors `(batch, length)`, for
        any length up to `config.max_position_embeddings`:

        - `input_word_ids`: word pieces.
        - `input_mask`: 1 for real tokens, 0 for padding.
        - `input_type_ids`: 0 in the first segment, 1 in the second.

        and returns a dict of float tensors:

        - `pooled_output` `(batch, hidden)`: the first token through a dense tanh layer.
        - `sequence_output` `(batch, length, hidden)`: the last block's output.
        - `encoder_outputs`: list of `(batch, length, hidden)`, one for each block.
        - `attentions`, with `output_attentions`: list of `(batch, heads, length, length)`, one
          for each block: how much each token attends to each, before dropout. Sums to 1 over
          the last axis.

    Example:

    >>> encoder = bert_encoder(BertConfig(
    ...     vocab_size=99, hidden_size=10, num_hidden_layers=3, num_attention_heads=2,
    ...     intermediate_size=37))
    >>> ids = keras.ops.ones((3, 7), "int32")
    >>> outputs = encoder({"input_word_ids": ids, "input_mask": ids, "input_type_ids": 0 * ids})
    >>> outputs["pooled_output"].shape, len(outputs["encoder_outputs"])
    (TensorShape([3, 10]), 3)

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805)
    """
    dtype = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    inputs = {
        name: keras.Input((None,), dtype="int32", name=name)
        for name in ("input_word_ids", "input_mask", "input_type_ids")
    }

    def initializer():
        return keras.initializers.TruncatedNormal(stddev=config.initializer_range)

    def norm(name):
        return LayerNorm(epsilon=config.layer_norm_eps, name=name, dtype=dtype)

    words = keras.layers.ReversibleEmbedding(
        config.vocab_size,
        config.hidden_size,
        embeddings_initializer=initializer(),
        name="word_embeddings",
        dtype=dtype,
    )(inputs["input_word_ids"])  # (batch, length, hidden)
    types = keras.layers.Embedding(
        config.type_vocab_size,
        config.hidden_size,
        embeddings_initializer=initializer(),
        name="type_embeddings",
        dtype=dtype,
    )(inputs["input_type_ids"])
    positions = layers.PositionEmbedding(
        config.max_position_embeddings, initializer(), name="position_embeddings", dtype=dtype
    )(words)
    x = norm("embeddings_norm")(words + types + positions)
    x = Dropout(config.hidden_dropout_prob, name="embeddings_drop", dtype=dtype)(x)
    encoder_outputs, attentions = [], []
    for index in range(config.num_hidden_layers):
        block = layers.TransformerBlock(
            config.num_attention_heads,
            config.intermediate_size,
            activation=ACTIVATIONS[config.hidden_act],
            dropout=config.hidden_dropout_prob,
            attention_dropout=config.attention_probs_dropout_prob,
            epsilon=config.layer_norm_eps,
            initializer=initializer(),
            rematerialize=rematerialize,
            name=f"layer_{index}",
            dtype=dtype,
        )
        if output_attentions:
            x, weights = block(x, inputs["input_mask"], return_attentions=True)
            attentions.append(weights)
        else:
            x = block(x, inputs["input_mask"])
        encoder_outputs.append(x)
    pooled = keras.layers.Dense(
        config.hidden_size,
        activation="tanh",
        kernel_initializer=initializer(),
        name="pooler",
        dtype=dtype,
    )(x[:, 0])  # (batch, hidden)
    pooled.is_of_bert_encoder = True  # see `pooled_alone`
    outputs = {"pooled_output": pooled, "sequence_output": x, "encoder_outputs": encoder_outputs}
    if output_attentions:
        outputs["attentions"] = attentions
    return keras.Model(inputs, outputs, name="bert_encoder")


def encoder_config(model):
    """The config of the encoder in a model.

    Args:
        model: an encoder, or a functional model that is built on the outputs of one.

    Returns:
        The `BertConfig` that `bert_encoder` makes an encoder of the same shape from. Its
        `num_hidden_layers` counts the blocks that the model uses.

    Raises:
        ValueError: there is no BERT of this package in the model.

    Example:

    >>> config = BertConfig(
    ...     vocab_size=99, hidden_size=10, num_hidden_layers=3, num_attention_heads=2,
    ...     intermediate_size=37)
    >>> encoder_config(bert_encoder(config)) == config
    True
    """
    found = encoder_layers(model)
    words, block = found["word_embeddings"], found["layer_0"]
    named = {function: name for name, function in ACTIVATIONS.items()}
    return BertConfig(
        vocab_size=words.input_dim,
        hidden_size=words.output_dim,
        num_hidden_layers=sum(name.startswith("layer_") for name in found),
        num_attention_heads=block.num_heads,
        intermediate_size=block.intermediate_size,
        hidden_act=named[block.activation],
        hidden_dropout_prob=found["embeddings_drop"].rate,
        attention_probs_dropout_prob=block.attention_dropout,
        max_position_embeddings=found["position_embeddings"].max_length,
        type_vocab_size=found["type_embeddings"].input_dim,
        initializer_range=words.embeddings_initializer.stddev,
        layer_norm_eps=block.epsilon,
    )


def encoder_layers(model):
    """The layers of the encoder in a model.

    Args:
        model: an encoder, or a functional model that is built on the outputs of one.

    Returns:
        dict from name to layer: the embeddings, `layer_0`, `layer_1` and so on, and `pooler`,
        if the model uses it.

    Raises:
        ValueError: there is no BERT of this package in the model.

    Example:

    >>> encoder = bert_encoder(BertConfig(
    ...     vocab_size=99, hidden_size=10, num_hidden_layers=2, num_attention_heads=2,
    ...     intermediate_size=37))
    >>> list(encoder_layers(encoder))[-3:]
    ['layer_0', 'layer_1', 'pooler']
    """
    found = {layer.name: layer for layer in getattr(model, "layers", ())}
    blocks = []
    while isinstance(found.get(f"layer_{len(blocks)}"), layers.TransformerBlock):
        blocks.append(f"layer_{len(blocks)}")
    missing = [name for name in (*EMBEDDINGS, "embeddings_drop") if name not in found]
    missing += [] if blocks else ["layer_0"]
    if missing:
        raise ValueError(
            f"the model has no layer {', '.join(missing)}: give an encoder of bert_encoder, or a model "
            "built on encoder.output"
        )
    names = [*EMBEDDINGS, "embeddings_drop", *blocks, "pooler"]
    return {name: found[name] for name in names if name in found}


def pooled_alone(pooled, model):
    """A `pooled_output` for a head that takes nothing else: the last block computes only what it needs.

    Of six blocks that saves a seventh of the work, of twelve a fourteenth.

    Args:
        pooled: the `pooled_output` of an encoder.
        model: the encoder, or a functional model that is built on the outputs of one.

    Returns:
        `keras.KerasTensor` `(batch, hidden)` of the same numbers; `pooled` itself if it is not one that
        `bert_encoder` has made, but that of a model that was loaded from a file, or of the user's own.
    """
    if not getattr(pooled, "is_of_bert_encoder", False):
        return pooled
    found = encoder_layers(model)
    block = [layer for name, layer in found.items() if name.startswith("layer_")][-1]
    return found["pooler"](block(*block.input, first_only=True))
