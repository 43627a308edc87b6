"""The layers of BERT in `keras.ops`, for any Keras backend."""

import math

import keras
from keras import ops

PACKAGE = "keras_bert_app"


@keras.saving.register_keras_serializable(PACKAGE)
def gelu_tanh(x):
    """GELU in its tanh approximation, which Google's BERT models were trained with."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(PACKAGE)
def gelu_erf(x):
    """GELU in its exact form, which Hugging Face calls "gelu"."""
    return _gelu_erf(x)


@ops.custom_gradient
def _gelu_erf(x):
    # Keeps nothing but `x` for the backward pass; automatic differentiation keeps four float32
    # tensors of its size, a third of the memory of a training step. In float32 also for bfloat16
    # input, which is more exact and, on a CPU, faster.
    def grad(*args, upstream=None):
        upstream = args[0] if upstream is None else upstream
        wide = ops.cast(x, "float32")
        density = ops.exp(-0.5 * ops.square(wide)) * (2 * math.pi) ** -0.5
        return upstream * ops.cast(_normal_share(wide) + wide * density, upstream.dtype)

    wide = ops.cast(x, "float32")
    return ops.cast(wide * _normal_share(wide), x.dtype), grad


def _normal_share(x):
    """The share of the normal distribution below `x`."""
    return 0.5 * (1.0 + ops.erf(x * 0.5**0.5))


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
        return self.embeddings[None, : ops.shape(x)[1]]  # (1, length, hidden)

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

    Returns:
        float `(batch, length, hidden)`.

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
        self.drop = keras.layers.Dropout(self.dropout, name="drop", dtype=self.dtype_policy)

    def _dense(self, x_shape, name):
        initializer = self.initializer.clone()  # one random stream for each kernel
        layer = keras.layers.Dense(
            x_shape[-1], kernel_initializer=initializer, name=name, dtype=self.dtype_policy
        )
        layer.build(x_shape)
        return layer

    def call(self, x, mask, training=None):
        _, length, hidden = ops.shape(x)
        head_size = x.shape[-1] // self.num_heads

        def heads(y):
            y = ops.reshape(y, (-1, length, self.num_heads, head_size))
            return ops.transpose(y, (0, 2, 1, 3))  # (batch, heads, length, head_size)

        query, key, value = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        query = query * ops.cast(head_size**-0.5, query.dtype)
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))  # (batch, heads, length, length)
        # As in Google's BERT, a large negative number and not -inf, so that a row without any
        # allowed token stays finite; -3e4 fits float16, and its exponential is 0 in every type.
        bias = (1.0 - ops.cast(ops.not_equal(mask, 0), scores.dtype)) * -3e4
        weights = ops.softmax(scores + bias[:, None, None, :])
        weights = self.drop(weights, training=training)
        y = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))  # (batch, length, heads, head_size)
        return self.output_dense(ops.reshape(y, (-1, length, hidden)))

    def compute_output_shape(self, x_shape, mask_shape=None):
        return x_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "initializer": keras.initializers.serialize(self.initializer),
        }


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

    Call arguments:
        x: float `(batch, length, hidden)`.
        mask: `(batch, length)`, non-zero where a token may be attended to.

    Returns:
        float `(batch, length, hidden)`.

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

    def build(self, x_shape, mask_shape=None):
        dtype = self.dtype_policy
        *axes, hidden = x_shape
        self.attention = SelfAttention(
            self.num_heads, self.attention_dropout, self.initializer, name="attention", dtype=dtype
        )
        self.attention.build(x_shape, mask_shape)
        self.attention_norm = keras.layers.LayerNormalization(
            epsilon=self.epsilon, name="attention_norm", dtype=dtype
        )
        self.attention_norm.build(x_shape)
        self.intermediate = keras.layers.Dense(
            self.intermediate_size,
            activation=self.activation,
            kernel_initializer=self.initializer.clone(),
            name="intermediate",
            dtype=dtype,
        )
        self.intermediate.build(x_shape)
        self.output_dense = keras.layers.Dense(
            hidden, kernel_initializer=self.initializer.clone(), name="output", dtype=dtype
        )
        self.output_dense.build((*axes, self.intermediate_size))
        self.output_norm = keras.layers.LayerNormalization(
            epsilon=self.epsilon, name="output_norm", dtype=dtype
        )
        self.output_norm.build(x_shape)
        self.drop = keras.layers.Dropout(self.dropout, name="drop", dtype=dtype)

    def call(self, x, mask, training=None):
        attended = self.drop(self.attention(x, mask, training=training), training=training)
        x = self.attention_norm(x + attended)
        transformed = self.drop(self.output_dense(self.intermediate(x)), training=training)
        return self.output_norm(x + transformed)

    def compute_output_shape(self, x_shape, mask_shape=None):
        return x_shape

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
        }
