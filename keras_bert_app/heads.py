"""The heads of BERT's tasks, each built on the encoder's own graph."""

import keras
from keras import ops

from keras_bert_app.activations import PACKAGE
from keras_bert_app.dropout import Dropout
from keras_bert_app.encoder import ACTIVATIONS, encoder_config, pooled_alone
from keras_bert_app.normalization import LayerNorm

PRETRAINING_HEADS = ("masked_lm", "next_sentence")
POOLINGS = ("mean", "cls", "max")


@keras.saving.register_keras_serializable(PACKAGE)
class Bias(keras.layers.Layer):
    """Adds a learned vector, as the masked language model does after the word embeddings.

    Call arguments:
        x: float `(..., units)`.

    Returns:
        float `(..., units)`.

    Example:

    >>> Bias()(keras.ops.ones((3, 7, 10))).shape
    TensorShape([3, 7, 10])

    Reference: [google-research/bert](https://github.com/google-research/bert), `run_pretraining.py`.
    """

    def build(self, x_shape):
        self.bias = self.add_weight(name="bias", shape=x_shape[-1:], initializer="zeros")

    def call(self, x):
        return x + self.bias

    def compute_output_shape(self, x_shape):
        return x_shape


def pretrainer(encoder, heads=PRETRAINING_HEADS, activation=None, epsilon=None):
    """The encoder with the heads that BERT was pretrained with.

    The masked language model predicts the word pieces at some positions: a dense layer, its
    activation, layer normalization, and a product with the word embeddings themselves, so that
    training reaches them from both sides. The next sentence head is one dense layer on
    `pooled_output`.

    Args:
        encoder: from `bert_encoder` or `from_pretrained`. Its layers are shared, not copied.
        heads: `"masked_lm"`, `"next_sentence"` or both.
        activation: of the masked language model's dense layer, as `hidden_act` of `BertConfig`.
            Defaults to that of the encoder.
        epsilon: of its layer normalization. Defaults to that of the encoder.

    Returns:
        A functional `keras.Model`. With `"masked_lm"` it has one input more, `masked_lm_positions`,
        int32 `(batch, predictions)`. It returns a dict of float32 tensors: `mlm_logits`
        `(batch, predictions, vocab_size)` and `nsp_logits` `(batch, 2)`, where index 0 means that
        the second text is the next sentence of the first.

    Raises:
        ValueError: `heads` or `activation` is not one of those above.

    Example:

    >>> encoder = bert_encoder(BertConfig(
    ...     vocab_size=99, hidden_size=10, num_hidden_layers=3, num_attention_heads=2,
    ...     intermediate_size=37))
    >>> pretrainer(encoder).output["mlm_logits"].shape
    (None, None, 99)

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 3.1.
    """
    if not heads or not set(heads) <= set(PRETRAINING_HEADS):
        raise ValueError(f"heads={heads!r}: give {' or '.join(map(repr, PRETRAINING_HEADS))}, or both")
    config = encoder_config(encoder)
    activation = config.hidden_act if activation is None else activation
    epsilon = config.layer_norm_eps if epsilon is None else epsilon
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r}: one of {', '.join(ACTIVATIONS)}")
    inputs, outputs = dict(encoder.input), {}
    words = encoder.get_layer("word_embeddings")
    dtype = words.dtype_policy
    if "masked_lm" in heads:
        positions = keras.Input((None,), dtype="int32", name="masked_lm_positions")
        inputs["masked_lm_positions"] = positions
        x = encoder.output["sequence_output"]
        x = ops.take_along_axis(x, positions[..., None], axis=1)  # (batch, predictions, hidden)
        x = keras.layers.Dense(
            x.shape[-1],
            activation=ACTIVATIONS[activation],
            kernel_initializer=_initializer(),
            name="mlm_dense",
            dtype=dtype,
        )(x)
        x = LayerNorm(epsilon=epsilon, name="mlm_norm", dtype=dtype)(x)
        x = words(x, reverse=True)  # (batch, predictions, vocab_size)
        outputs["mlm_logits"] = Bias(name="mlm_logits", dtype="float32")(x)
    if "next_sentence" in heads:
        pooled = encoder.output["pooled_output"]
        pooled = pooled if "masked_lm" in heads else pooled_alone(pooled, encoder)
        outputs["nsp_logits"] = _dense(2, "nsp_logits")(pooled)
    return keras.Model(inputs, outputs, name="pretrainer")


def pretrained_head(model, head):
    """The part of a `pretrainer` that has one of its heads alone.

    Args:
        model: from `pretrainer`.
        head: `"masked_lm"` or `"next_sentence"`.

    Returns:
        A `keras.Model` of the same layers with the head's logits as its output, not in a dict.

    Raises:
        ValueError: the model has no such head.
    """
    output = {"masked_lm": "mlm_logits", "next_sentence": "nsp_logits"}[head]
    if not isinstance(model.output, dict) or output not in model.output:
        raise ValueError(f"the model {model.name} has no {head} head: give one from pretrainer(encoder)")
    if head == "masked_lm":
        return keras.Model(model.input, model.output[output], name=head)
    inputs = {name: tensor for name, tensor in model.input.items() if name != "masked_lm_positions"}
    logits = model.get_layer("nsp_logits")
    return keras.Model(inputs, logits(pooled_alone(logits.input, model)), name=head)


def mlm_numbers(model):
    """The activation, by its name in `BertConfig`, and the epsilon of a masked language model's head.

    Args:
        model: from `pretrainer`, or any other.

    Returns:
        `(activation, epsilon)`, `(None, None)` if the model has no such head.
    """
    layers = {layer.name: layer for layer in model.layers}
    if "mlm_dense" not in layers:
        return None, None
    names = {function: name for name, function in ACTIVATIONS.items()}
    return names[layers["mlm_dense"].activation], layers["mlm_norm"].epsilon


def text_classifier(encoder, num_classes, dropout=0.1):
    """The encoder with a classification head: dropout and one dense layer on `pooled_output`.

    Args:
        encoder: from `bert_encoder` or `from_pretrained`. Its layers are shared, not copied:
            training the classifier trains the encoder.
        num_classes: number of labels; 1 for a model that gives one number, such as a similarity.
        dropout: rate before the dense layer.

    Returns:
        A functional `keras.Model` with the encoder's inputs and float32 logits
        `(batch, num_classes)`.

    Raises:
        ValueError: `num_classes` is below 1.

    Example:

    >>> encoder = bert_encoder(BertConfig(
    ...     vocab_size=99, hidden_size=10, num_hidden_layers=3, num_attention_heads=2,
    ...     intermediate_size=37))
    >>> text_classifier(encoder, num_classes=5).output_shape
    (None, 5)

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 4.1.
    """
    _check_classes(num_classes)
    x = Dropout(dropout, name="classifier_drop")(pooled_alone(encoder.output["pooled_output"], encoder))
    return keras.Model(encoder.input, _dense(num_classes, "classifier")(x), name="text_classifier")


def token_classifier(encoder, num_classes, dropout=0.1):
    """The encoder with a label for each word piece: dropout and one dense layer.

    Args:
        encoder: from `bert_encoder` or `from_pretrained`. Its layers are shared, not copied.
        num_classes: number of labels.
        dropout: rate before the dense layer.

    Returns:
        A functional `keras.Model` with the encoder's inputs and float32 logits
        `(batch, length, num_classes)`, of padding too.

    Raises:
        ValueError: `num_classes` is below 1.

    Example:

    >>> encoder = bert_encoder(BertConfig(
    ...     vocab_size=99, hidden_size=10, num_hidden_layers=3, num_attention_heads=2,
    ...     intermediate_size=37))
    >>> token_classifier(encoder, num_classes=5).output_shape
    (None, None, 5)

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 5.3.
    """
    _check_classes(num_classes)
    x = Dropout(dropout, name="token_classifier_drop")(encoder.output["sequence_output"])
    return keras.Model(encoder.input, _dense(num_classes, "token_classifier")(x), name="token_classifier")


def span_classifier(encoder):
    """The encoder with the head of extractive question answering: where an answer starts and ends.

    Args:
        encoder: from `bert_encoder` or `from_pretrained`. Its layers are shared, not copied.

    Returns:
        A functional `keras.Model` with the encoder's inputs, which are a question and a context,
        and a dict of float32 logits `(batch, length)`: `start_logits` and `end_logits`, of padding
        too.

    Example:

    >>> encoder = bert_encoder(BertConfig(
    ...     vocab_size=99, hidden_size=10, num_hidden_layers=3, num_attention_heads=2,
    ...     intermediate_size=37))
    >>> span_classifier(encoder).output["start_logits"].shape
    (None, None)

    Reference: [Devlin et al., 2019](https://arxiv.org/abs/1810.04805), section 4.2.
    """
    logits = _dense(2, "span_classifier")(encoder.output["sequence_output"])  # (batch, length, 2)
    outputs = {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}
    return keras.Model(encoder.input, outputs, name="span_classifier")


def sentence_encoder(encoder, pooling="mean", normalize=True):
    """The encoder with one vector for each text, for similarity and search.

    Args:
        encoder: from `bert_encoder` or `from_pretrained`. Its layers are shared, not copied.
        pooling: `"mean"` of the vectors of all word pieces, special tokens included; `"cls"`, that of
            `[CLS]`; or `"max"`, the largest number in each place.
        normalize: True for vectors of length 1, whose product is their cosine.

    Returns:
        A functional `keras.Model` with the encoder's inputs and float32 vectors `(batch, hidden)`.

    Raises:
        ValueError: `pooling` is not one of those above.

    Example:

    >>> encoder = bert_encoder(BertConfig(
    ...     vocab_size=99, hidden_size=10, num_hidden_layers=3, num_attention_heads=2,
    ...     intermediate_size=37))
    >>> sentence_encoder(encoder).output_shape
    (None, 10)

    Reference: [Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084), section 3.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"pooling={pooling!r}: one of {', '.join(POOLINGS)}")
    x = ops.cast(encoder.output["sequence_output"], "float32")
    mask = ops.cast(encoder.input["input_mask"], "float32")[..., None]  # (batch, length, 1)
    if pooling == "mean":
        x = ops.sum(x * mask, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1.0)  # (batch, hidden)
    elif pooling == "max":
        x = ops.max(x + (mask - 1.0) * 1e9, axis=1)
    else:
        x = x[:, 0]
    if normalize:
        x = ops.normalize(x)
    return keras.Model(encoder.input, x, name="sentence_encoder")


def _check_classes(num_classes):
    if type(num_classes) is not int or num_classes < 1:
        raise ValueError(f"num_classes={num_classes!r}: give a whole number of at least 1")


def _dense(units, name):
    """A dense layer whose logits are float32 in mixed precision too."""
    return keras.layers.Dense(units, kernel_initializer=_initializer(), name=name, dtype="float32")


def _initializer():
    # As Transformers starts a head. From the encoder's, which is truncated and so an eighth narrower, the F1
    # of WNUT-17 was 1.0 lower, mean of 18 seeds.
    return keras.initializers.RandomNormal(stddev=0.02)
