"""The layers of BERT in `keras.ops`, for any Keras backend."""

import keras
from keras import ops

from keras_bert_app import rematerialization
from keras_bert_app.activations import PACKAGE, gelu_erf, in_inference, in_training
from keras_bert_app.dense import Dense
from keras_bert_app.dropout import Dropout
from keras_bert_app.fusing import fuses
from keras_bert_app.normalization import LayerNorm
from keras_bert_app.softmax import attend
from keras_bert_app.tokens import Tokens

# The dense layers of a transformer block.
PROJECTIONS = ("query", "key", "value", "attention_output", "intermediate", "output")


@keras.saving.register_keras_serializable(PACKAGE)
class PositionEmbedding(keras.layers.Layer):
    """One learned vector for each position, the same for every row of the batch.

    Args:
        max_length: number of positions.
        initializer: initializer of the vectors.

    Call arguments:
        x: `(batch, length, hidden)`, of which only the shape is used.

    Returns:
        float `(1, length, hidden)`, to be added to `x`.

    Raises:
        ValueError: `x` is longer than `max_length`.

    Example:

    >>> PositionEmbedding(max_length=9)(keras.ops.ones((3, 7, 4))).shape
    TensorShape([1, 7, 4])

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805)
    """

    def __init__(self, max_length, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.max_length = max_length
        self.initializer = keras.initializers.get(initializer)

    def build(self, x_shape):
        self.embeddings = self.add_weight(
            name="embeddings", shape=(self.max_length, x_shape[-1]), initializer=self.initializer
        )

    def call(self, x):
        self._check_length(x.shape[1])
        return ops.expand_dims(self.embeddings[: ops.shape(x)[1]], 0)  # (1, length, hidden)

    def compute_output_shape(self, x_shape):
        self._check_length(x_shape[1])
        return (1, *x_shape[1:])

    def _check_length(self, length):
        if length is not None and length > self.max_length:
            raise ValueError(
                f"the input has {length} word pieces, this encoder takes at most {self.max_length}: "
                "lower sequence_length"
            )

    def get_config(self):
        return {
            **super().get_config(),
            "max_length": self.max_length,
            "initializer": keras.initializers.serialize(self.initializer),
        }


@keras.saving.register_keras_serializable(PACKAGE)
class SelfAttention(keras.layers.Layer):
    """Multi-head attention of a sequence to itself.

    Args:
        num_heads: attention heads; divides the width of the input.
        dropout: rate on the attention weights.
        initializer: initializer of the four kernels.

    Call arguments:
        x: float `(batch, length, hidden)`.
        mask: `(batch, length)`, non-zero where a token may be attended to. A row that is
            zero everywhere attends to all tokens alike.
        return_attentions: True to get also how much each token attends to each.

    Returns:
        float `(batch, length, hidden)`. With `return_attentions` a pair of it and of the attention
        weights before dropout, float `(batch, heads, length, length)`, the last axis of which sums to 1.

    Example:

    >>> layer = SelfAttention(num_heads=2)
    >>> layer(keras.ops.ones((3, 7, 10)), keras.ops.ones((3, 7))).shape
    TensorShape([3, 7, 10])

    Reference: [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)
    """

    def __init__(self, num_heads, dropout=0.1, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout = dropout
        self.initializer = keras.initializers.get(initializer)

    def build(self, x_shape, mask_shape=None):
        hidden = x_shape[-1]
        if hidden % self.num_heads:
            raise ValueError(f"num_heads={self.num_heads} does not divide hidden={hidden}: choose a divisor")
        self.query = self._dense(x_shape, "query")
        self.key = self._dense(x_shape, "key")
        self.value = self._dense(x_shape, "value")
        self.output_dense = self._dense(x_shape, "output")
        self.drop = Dropout(self.dropout, name="drop", dtype=self.dtype_policy)
        _freeze_parts(self)

    def _dense(self, x_shape, name):
        initializer = self.initializer.clone()  # one random stream for each kernel
        layer = Dense(x_shape[-1], kernel_initializer=initializer, name=name, dtype=self.dtype_policy)
        layer.build(x_shape)
        return layer

    def call(self, x, mask, training=None, return_attentions=False):
        tokens = Tokens(mask, training)
        y, attentions = self.of_rows(tokens.rows(x), tokens, return_attentions)
        return (tokens.batch(y), attentions) if return_attentions else tokens.batch(y)

    def of_rows(self, rows, tokens, return_attentions, first=None):
        """What `call` returns of the rows of `tokens`, as rows, and the attention weights or None.

        With `first`, the first token of each text, `(batch, hidden)`, what it returns of these alone.
        """
        hidden = rows.shape[-1]
        head_size = hidden // self.num_heads
        key, value = (tokens.split(part(rows), self.num_heads) for part in (self.key, self.value))
        if first is None:
            query = tokens.split(self.query(rows), self.num_heads)
        else:
            query = ops.reshape(self.query(first), (-1, self.num_heads, 1, head_size))
        query = query * ops.cast(head_size**-0.5, query.dtype)
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))  # (batch, heads, length or 1, length)
        # As in Google's BERT, a large negative number and not -inf, so that a row without any
        # allowed token stays finite; -3e4 fits float16, and its exponential is 0 in every type.
        bias = (1.0 - ops.cast(ops.not_equal(tokens.mask, 0), scores.dtype)) * -3e4
        bias = ops.expand_dims(bias, (1, 2))
        attentions = None
        fusing = tokens.training and fuses(hidden) and first is None and not return_attentions
        if fusing and self.drop.is_cheap:
            y = attend(scores, bias, self.drop.draw_key(), self.drop.rate, value)
        else:
            attentions = ops.softmax(scores + bias)
            y = ops.matmul(self.drop(attentions, training=tokens.training), value)
        y = tokens.join(y) if first is None else ops.reshape(y, (-1, hidden))
        return self.output_dense(y), attentions

    def compute_output_shape(self, x_shape, mask_shape=None):
        return x_shape

    def compute_output_spec(self, x, mask, training=None, return_attentions=False):
        return _output_spec(self, x, return_attentions)

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "initializer": keras.initializers.serialize(self.initializer),
        }


def _freeze_parts(layer):
    """Freezes what a frozen layer has built, as Keras does with the layer's own weights alone."""
    if not layer.trainable:
        for part in layer._flatten_layers(include_self=False):
            part.trainable = False


def _output_spec(layer, x, return_attentions, first_only=False):
    batch, length, hidden = x.shape
    y = keras.KerasTensor((batch, hidden) if first_only else x.shape, layer.compute_dtype)
    if not return_attentions:
        return y
    queries = 1 if first_only else length
    return y, keras.KerasTensor((batch, layer.num_heads, queries, length), layer.compute_dtype)


@keras.saving.register_keras_serializable(PACKAGE)
class TransformerBlock(keras.layers.Layer):
    """Self-attention and a feed-forward network, each added to its input and then normalized.

    Args:
        num_heads: attention heads; divides the width of the input.
        intermediate_size: width of the feed-forward hidden layer.
        activation: activation of the feed-forward hidden layer.
        dropout: rate on both residual branches.
        attention_dropout: rate on the attention weights.
        epsilon: of both layer normalizations.
        initializer: initializer of all kernels.
        rematerialize: True to keep only the input for the backward pass of a training step, which
            computes the rest a second time: less memory, about a third more time. Not so on JAX
            with a CPU, for which XLA merges the two computations again.

    Call arguments:
        x: float `(batch, length, hidden)`.
        mask: `(batch, length)`, non-zero where a token may be attended to.
        return_attentions: True to get also how much each token attends to each.
        first_only: True to get what a head on `[CLS]` takes, and to compute no more: the first token
            attends to all, but of the others there are only the keys and values.

    Returns:
        float `(batch, length, hidden)`, with `first_only` `(batch, hidden)`. With `return_attentions` a pair
        of it and of the attention weights, see `SelfAttention`, with `first_only` those of the first token.

    Example:

    >>> block = TransformerBlock(num_heads=2, intermediate_size=16)
    >>> block(keras.ops.ones((3, 7, 10)), keras.ops.ones((3, 7))).shape
    TensorShape([3, 7, 10])

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805)
    """

    def __init__(
        self,
        num_heads,
        intermediate_size,
        activation=gelu_erf,
        dropout=0.1,
        attention_dropout=0.1,
        epsilon=1e-12,
        initializer="glorot_uniform",
        rematerialize=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.intermediate_size = intermediate_size
        self.activation = keras.activations.get(activation)
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.epsilon = epsilon
        self.initializer = keras.initializers.get(initializer)
        self.rematerialize = rematerialize

    def build(self, x_shape, mask_shape=None):
        dtype = self.dtype_policy
        *axes, hidden = x_shape
        self.attention = SelfAttention(
            self.num_heads, self.attention_dropout, self.initializer, name="attention", dtype=dtype
        )
        self.attention.build(x_shape, mask_shape)
        self.attention_norm = LayerNorm(epsilon=self.epsilon, name="attention_norm", dtype=dtype)
        self.attention_norm.build(x_shape)
        self.intermediate = Dense(
            self.intermediate_size,
            kernel_initializer=self.initializer.clone(),
            name="intermediate",
            dtype=dtype,
        )
        self.intermediate.build(x_shape)
        self.output_dense = Dense(
            hidden, kernel_initializer=self.initializer.clone(), name="output", dtype=dtype
        )
        self.output_dense.build((*axes, self.intermediate_size))
        self.output_norm = LayerNorm(epsilon=self.epsilon, name="output_norm", dtype=dtype)
        self.output_norm.build(x_shape)
        self.drop = Dropout(self.dropout, name="drop", dtype=dtype)
        _freeze_parts(self)

    @property
    def projections(self):
        """The dense layers, dict by the names of `PROJECTIONS`."""
        attention = self.attention
        parts = attention.query, attention.key, attention.value, attention.output_dense
        return dict(zip(PROJECTIONS, (*parts, self.intermediate, self.output_dense), strict=True))

    def call(self, x, mask, training=None, return_attentions=False, first_only=False):
        def forward(x, mask):
            return self._forward(x, mask, training, return_attentions, first_only)

        if self.rematerialize and training:
            drops = {self.attention.drop: 1, self.drop: 2}  # how often each is called
            return rematerialization.recompute(self, forward, drops, x, mask)
        return forward(x, mask)

    def _forward(self, x, mask, training, return_attentions, first_only):
        tokens = Tokens(mask, training)
        rows, first = tokens.rows(x), x[:, 0] if first_only else None
        attended, attentions = self.attention.of_rows(rows, tokens, return_attentions, first)
        x = self.attention_norm.of_sum(first if first_only else rows, attended, self.drop, training)
        activation = (in_training if training else in_inference)(self.activation)
        transformed = self.output_dense(activation(self.intermediate(x)))
        x = self.output_norm.of_sum(x, transformed, self.drop, training)
        x = x if first_only else tokens.batch(x)
        return (x, attentions) if return_attentions else x

    def compute_output_shape(self, x_shape, mask_shape=None):
        return x_shape

    def compute_output_spec(self, x, mask, training=None, return_attentions=False, first_only=False):
        return _output_spec(self, x, return_attentions, first_only)

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "intermediate_size": self.intermediate_size,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "epsilon": self.epsilon,
            "initializer": keras.initializers.serialize(self.initializer),
            "rematerialize": self.rematerialize,
        }
