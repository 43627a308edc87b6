"""What every variable is called in each checkpoint format, and in which layout it is kept there."""

import dataclasses
from collections.abc import Callable

# How a tensor is kept in a file, beside "plain", which is as here. PyTorch keeps kernels as
# (out, in); Model Garden and KerasHub split the attention's `hidden` into (heads, head_size).
LAYOUTS = ("plain", "transposed", "heads", "heads_out", "heads_in")

MAX_LAYERS = 1000  # a larger number is a damaged file, and would take all memory

HEADS = {
    "masked_lm": (
        "mlm_dense/kernel",
        "mlm_dense/bias",
        "mlm_norm/gamma",
        "mlm_norm/beta",
        "mlm_logits/bias",
    ),
    "next_sentence": ("nsp_logits/kernel", "nsp_logits/bias"),
    "text_classifier": ("classifier/kernel", "classifier/bias"),
    "token_classifier": ("token_classifier/kernel", "token_classifier/bias"),
    "span_classifier": ("span_classifier/kernel", "span_classifier/bias"),
}


@dataclasses.dataclass(frozen=True)
class Table:
    """The names of one format.

    Args:
        block: function of a block's index, what its names begin with.
        blocks: rows `(variable of a block, name after the block's, layout)`.
        others: rows `(variable, names, layout)`; of several names, separated by a space, a file
            holds any, and if it holds more they are equal. `{pooler}` is replaced, see `names`.
        leftovers: pattern of the names of tensors that are no weights of the model.
        separator: what the format has for the `/` of the rows.
    """

    block: Callable
    blocks: tuple
    others: tuple
    leftovers: str
    separator: str = "/"

    def names(self, num_layers, pooler=None):
        """Dict from each variable's path to `(names, layout)`.

        Args:
            num_layers: number of blocks.
            pooler: what the pooler is called, if that depends on the file.

        Raises:
            ValueError: no BERT has so many blocks.
        """
        if num_layers > MAX_LAYERS:
            raise ValueError(f"num_hidden_layers={num_layers:,}: give a number up to {MAX_LAYERS:,}")
        rows = [
            (f"layer_{index}/{path}", f"{self.block(index)}/{name}", layout)
            for index in range(num_layers)
            for path, name, layout in self.blocks
        ]
        rows += [(path, several.format(pooler=pooler), layout) for path, several, layout in self.others]
        return {
            path: (tuple(several.replace("/", self.separator).split()), layout)
            for path, several, layout in rows
        }


def _kernels_and_biases(rows, kernel="kernel", bias="bias", layout="plain"):
    """Two rows for each dense layer in `rows` `(path, name)`."""
    for path, name in rows:
        yield f"{path}/kernel", f"{name}/{kernel}", layout
        yield f"{path}/bias", f"{name}/{bias}", "plain"


def _norms(rows, gamma="gamma", beta="beta"):
    """Two rows for each layer normalization in `rows` `(path, name)`."""
    for path, name in rows:
        yield f"{path}/gamma", f"{name}/{gamma}", "plain"
        yield f"{path}/beta", f"{name}/{beta}", "plain"


def _attention(query, key, value, output, kernel="kernel", bias="bias"):
    """The rows of an attention whose kernels keep the heads apart."""
    for path, name in (("query", query), ("key", key), ("value", value)):
        yield f"attention/{path}/kernel", f"{name}/{kernel}", "heads_out"
        yield f"attention/{path}/bias", f"{name}/{bias}", "heads"
    yield "attention/output/kernel", f"{output}/{kernel}", "heads_in"
    yield "attention/output/bias", f"{output}/{bias}", "plain"


# google-research/bert, modeling.py, run_pretraining.py, run_classifier.py and run_squad.py.
GOOGLE = Table(
    block="bert/encoder/layer_{}".format,
    blocks=(
        *_kernels_and_biases(
            [
                ("attention/query", "attention/self/query"),
                ("attention/key", "attention/self/key"),
                ("attention/value", "attention/self/value"),
                ("attention/output", "attention/output/dense"),
                ("intermediate", "intermediate/dense"),
                ("output", "output/dense"),
            ]
        ),
        *_norms([("attention_norm", "attention/output/LayerNorm"), ("output_norm", "output/LayerNorm")]),
    ),
    others=(
        ("word_embeddings/embeddings", "bert/embeddings/word_embeddings", "plain"),
        ("position_embeddings/embeddings", "bert/embeddings/position_embeddings", "plain"),
        ("type_embeddings/embeddings", "bert/embeddings/token_type_embeddings", "plain"),
        *_norms([("embeddings_norm", "bert/embeddings/LayerNorm")]),
        *_kernels_and_biases([("pooler", "bert/pooler/dense")]),
        *_kernels_and_biases([("mlm_dense", "cls/predictions/transform/dense")]),
        *_norms([("mlm_norm", "cls/predictions/transform/LayerNorm")]),
        ("mlm_logits/bias", "cls/predictions/output_bias", "plain"),
        ("nsp_logits/kernel", "cls/seq_relationship/output_weights", "transposed"),
        ("nsp_logits/bias", "cls/seq_relationship/output_bias", "plain"),
        ("classifier/kernel", "output_weights", "transposed"),
        ("classifier/bias", "output_bias", "plain"),
        ("span_classifier/kernel", "cls/squad/output_weights", "transposed"),
        ("span_classifier/bias", "cls/squad/output_bias", "plain"),
    ),
    leftovers=r"(.*/)?(adam_m|adam_v|Adam(_1)?|beta[12]_power|global_step)",
)

# Hugging Face Transformers, without the prefix.
HUGGINGFACE = Table(
    block="encoder/layer/{}".format,
    blocks=(
        *_kernels_and_biases(
            [
                ("attention/query", "attention/self/query"),
                ("attention/key", "attention/self/key"),
                ("attention/value", "attention/self/value"),
                ("attention/output", "attention/output/dense"),
                ("intermediate", "intermediate/dense"),
                ("output", "output/dense"),
            ],
            kernel="weight",
            layout="transposed",
        ),
        *_norms(
            [("attention_norm", "attention/output/LayerNorm"), ("output_norm", "output/LayerNorm")],
            gamma="weight",
            beta="bias",
        ),
    ),
    others=(
        (
            "word_embeddings/embeddings",
            "embeddings/word_embeddings/weight cls/predictions/decoder/weight",
            "plain",
        ),
        ("position_embeddings/embeddings", "embeddings/position_embeddings/weight", "plain"),
        ("type_embeddings/embeddings", "embeddings/token_type_embeddings/weight", "plain"),
        *_norms([("embeddings_norm", "embeddings/LayerNorm")], gamma="weight", beta="bias"),
        *_kernels_and_biases(
            [
                ("pooler", "pooler/dense"),
                ("mlm_dense", "cls/predictions/transform/dense"),
                ("nsp_logits", "cls/seq_relationship"),
                ("classifier", "classifier"),
                ("token_classifier", "classifier"),
                ("span_classifier", "qa_outputs"),
            ],
            kernel="weight",
            layout="transposed",
        ),
        *_norms([("mlm_norm", "cls/predictions/transform/LayerNorm")], gamma="weight", beta="bias"),
        ("mlm_logits/bias", "cls/predictions/bias cls/predictions/decoder/bias", "plain"),
    ),
    leftovers=r"embeddings\.position_ids",  # a constant 0, 1, 2, ... in files of old versions
    separator=".",
)

# One transformer block of tensorflow/models, official/nlp/modeling/layers/transformer_encoder_block.py.
_MODEL_GARDEN_BLOCK = (
    *_attention(*(f"_attention_layer/_{part}_dense" for part in ("query", "key", "value", "output"))),
    *_norms([("attention_norm", "_attention_layer_norm"), ("output_norm", "_output_layer_norm")]),
    *_kernels_and_biases([("intermediate", "_intermediate_dense"), ("output", "_output_dense")]),
)
# Its pretraining heads; "." and "/" within an attribute's name are written as ".." and ".S".
_MODEL_GARDEN_HEADS = (
    *_kernels_and_biases([("mlm_dense", "masked_lm/dense")]),
    *_norms([("mlm_norm", "masked_lm/layer_norm")]),
    ("mlm_logits/bias", "masked_lm/output_bias.Sbias", "plain"),
    *_kernels_and_biases([("nsp_logits", "model/classification_heads/0/out_proj")]),
    *_kernels_and_biases([("pooler", "{pooler}")]),
)
_MODEL_GARDEN_LEFTOVERS = (
    r"(.*/)?(save_counter|global_step|_CHECKPOINTABLE_OBJECT_GRAPH)|optimizer/.*|.*/\.OPTIMIZER_SLOT/.*"
)


def _model_garden(block, words, positions, types, norm):
    """The table of one of the Model Garden's encoders; in a pretrainer the head holds the word embeddings."""
    return Table(
        block=block,
        blocks=_MODEL_GARDEN_BLOCK,
        others=(
            ("word_embeddings/embeddings", f"encoder/{words}/embeddings masked_lm/embedding_table", "plain"),
            ("position_embeddings/embeddings", f"encoder/{positions}/embeddings", "plain"),
            ("type_embeddings/embeddings", f"encoder/{types}/embeddings", "plain"),
            *_norms([("embeddings_norm", f"encoder/{norm}")]),
            *_MODEL_GARDEN_HEADS,
        ),
        leftovers=_MODEL_GARDEN_LEFTOVERS,
    )


# tensorflow/models, official/nlp/modeling/networks/bert_encoder.py: BertEncoder, numbered by its
# layers, and BertEncoderV2, by its attributes.
MODEL_GARDEN = _model_garden(
    lambda index: f"encoder/layer_with_weights-{index + 4}",
    *(f"layer_with_weights-{index}" for index in range(4)),
)
MODEL_GARDEN_V2 = _model_garden(
    "encoder/_transformer_layers/{}".format,
    "_embedding_layer",
    "_position_embedding_layer",
    "_type_embedding_layer",
    "_embedding_norm_layer",
)

# The variables' own names in a TF-Hub encoder of tensorflow/models, official/nlp/tools/export_tfhub_lib.py.
TFHUB = Table(
    block="transformer/layer_{}".format,
    blocks=(
        *_attention(*(f"self_attention/{part}" for part in ("query", "key", "value", "attention_output"))),
        *_norms([("attention_norm", "self_attention_layer_norm"), ("output_norm", "output_layer_norm")]),
        *_kernels_and_biases([("intermediate", "intermediate"), ("output", "output")]),
    ),
    others=(
        ("word_embeddings/embeddings", "word_embeddings/embeddings", "plain"),
        ("position_embeddings/embeddings", "position_embedding/embeddings", "plain"),
        ("type_embeddings/embeddings", "type_embeddings/embeddings", "plain"),
        *_norms([("embeddings_norm", "embeddings/layer_norm")]),
        *_kernels_and_biases([("pooler", "pooler_transform")]),
        *_kernels_and_biases([("mlm_dense", "cls/predictions/transform/dense")]),
        *_norms([("mlm_norm", "cls/predictions/transform/LayerNorm")]),
        ("mlm_logits/bias", "cls/predictions/output_bias/bias", "plain"),
    ),
    leftovers=r"do_lower_case|save_counter",
)

# keras-hub, src/models/bert/bert_backbone.py, as Keras names the layers in its HDF5 files.
KERAS_HUB = Table(
    block=lambda index: f"layers/transformer_encoder{f'_{index}' if index else ''}",
    blocks=(
        *_attention(
            *(f"_self_attention_layer/{part}_dense" for part in ("query", "key", "value", "output")),
            kernel="vars/0",
            bias="vars/1",
        ),
        *_norms(
            [("attention_norm", "_self_attention_layer_norm"), ("output_norm", "_feedforward_layer_norm")],
            gamma="vars/0",
            beta="vars/1",
        ),
        *_kernels_and_biases(
            [
                ("intermediate", "_feedforward_intermediate_dense"),
                ("output", "_feedforward_output_dense"),
            ],
            kernel="vars/0",
            bias="vars/1",
        ),
    ),
    others=(
        ("word_embeddings/embeddings", "layers/reversible_embedding/vars/0", "plain"),
        ("position_embeddings/embeddings", "layers/position_embedding/vars/0", "plain"),
        ("type_embeddings/embeddings", "layers/embedding/vars/0", "plain"),
        *_norms([("embeddings_norm", "layers/layer_normalization")], gamma="vars/0", beta="vars/1"),
        *_kernels_and_biases([("pooler", "layers/dense")], kernel="vars/0", bias="vars/1"),
        *_kernels_and_biases(
            [("mlm_dense", "task/layers/masked_lm_head/_intermediate_dense")], kernel="vars/0", bias="vars/1"
        ),
        *_norms(
            [("mlm_norm", "task/layers/masked_lm_head/_intermediate_layer_norm")],
            gamma="vars/0",
            beta="vars/1",
        ),
        ("mlm_logits/bias", "task/layers/masked_lm_head/vars/0", "plain"),
        *_kernels_and_biases([("classifier", "task/layers/dense")], kernel="vars/0", bias="vars/1"),
    ),
    leftovers=r"task/optimizer/.*",
)

# This package's own variables, as its SavedModels name them.
KERAS_BERT_APP = Table(
    block="layer_{}".format,
    blocks=tuple((path, path, "plain") for path, *_ in GOOGLE.blocks),
    others=tuple((path, path, "plain") for path, *_ in HUGGINGFACE.others),
    leftovers=r"do_lower_case|save_counter|.*seed_generator_state",
)
