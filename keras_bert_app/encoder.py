"""The BERT encoder as a plain functional `keras.Model`."""

import keras

from keras_bert_app import layers

ACTIVATIONS = {"gelu": layers.gelu_erf, "gelu_new": layers.gelu_tanh, "relu": keras.activations.relu}


def bert_encoder(config, dtype=None):
    """A BERT encoder with fresh weights.

    Args:
        config: `BertConfig`.
        dtype: Keras dtype policy of every layer, such as `"float32"` or
            `"mixed_bfloat16"`. Defaults to `keras.config.dtype_policy()`.

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
        return keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, name=name, dtype=dtype)

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
    x = keras.layers.Dropout(config.hidden_dropout_prob, name="embeddings_drop", dtype=dtype)(x)
    encoder_outputs = []
    for index in range(config.num_hidden_layers):
        x = layers.TransformerBlock(
            config.num_attention_heads,
            config.intermediate_size,
            activation=ACTIVATIONS[config.hidden_act],
            dropout=config.hidden_dropout_prob,
            attention_dropout=config.attention_probs_dropout_prob,
            epsilon=config.layer_norm_eps,
            initializer=initializer(),
            name=f"layer_{index}",
            dtype=dtype,
        )(x, inputs["input_mask"])
        encoder_outputs.append(x)
    pooled = keras.layers.Dense(
        config.hidden_size,
        activation="tanh",
        kernel_initializer=initializer(),
        name="pooler",
        dtype=dtype,
    )(x[:, 0])  # (batch, hidden)
    outputs = {"pooled_output": pooled, "sequence_output": x, "encoder_outputs": encoder_outputs}
    return keras.Model(inputs, outputs, name="bert_encoder")
