"""The numbers that define one BERT, read from any project's `config.json`."""

import dataclasses
import json
import math
from pathlib import Path

# The names of Hugging Face, where each name is one function: "gelu" is the
# exact (erf) form, the other two are the tanh approximation.
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

# In Google's and Model Garden's files "gelu" is the tanh form: google-research/bert, modeling.py.
GOOGLE_ACTIVATIONS = {"gelu": "gelu_new", "gelu_approximate": "gelu_new", "relu": "relu"}

# Model Garden's BertEncoder and its YAML files use other words for the same fields.
MODEL_GARDEN_NAMES = {
    "num_layers": "num_hidden_layers",
    "inner_dim": "intermediate_size",
    "inner_activation": "hidden_act",
    "hidden_activation": "hidden_act",
    "output_dropout": "hidden_dropout_prob",
    "dropout_rate": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
    "max_sequence_length": "max_position_embeddings",
}

# Keys that change the numbers, with the only value that is supported.
REQUIRED_VALUES = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "norm_first": False,
    "pruned_heads": {},
    "output_range": None,
    "return_word_embeddings": False,
    "return_attention_scores": False,
    "with_dense_inputs": False,
    "directionality": "bidi",
    "pooler_type": "first_token_transform",
}

# Keys that describe a file, a head, a tokenizer or a generation loop: the encoder is the same.
IGNORED = {
    "architectures", "auto_map", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
    "chunk_size_feed_forward", "classifier_dropout", "cls_token_id", "decoder_start_token_id",
    "dict_outputs", "diversity_penalty", "do_sample", "dtype", "early_stopping",
    "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty",
    "finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "gradient_checkpointing",
    "id2label", "initializer", "label2id", "language", "length_penalty", "mask_token_id", "max_length",
    "min_length", "name", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_labels",
    "num_return_sequences", "output_attentions", "output_hidden_states", "output_past", "output_scores",
    "pad_token_id", "pooler_fc_size", "pooler_layer_initializer", "pooler_num_attention_heads",
    "pooler_num_fc_layers", "pooler_size_per_head", "prefix", "problem_type", "remove_invalid_values",
    "repetition_penalty", "return_all_encoder_outputs", "return_dict", "return_dict_in_generate",
    "sbert_ce_default_activation_function", "sentence_transformers", "sep_token_id", "suppress_tokens",
    "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder",
    "tie_word_embeddings", "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript",
    "trainable", "transformers_version", "typical_p", "unk_token_id", "use_bfloat16", "use_cache",
    "xla_device",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The fields of `bert_config.json`.

    Args:
        vocab_size: number of word pieces.
        hidden_size: width of every token's vector.
        num_hidden_layers: number of transformer blocks.
        num_attention_heads: attention heads of each block; divides `hidden_size`.
        intermediate_size: width of the feed-forward hidden layer.
        hidden_act: `"gelu"` (exact), `"gelu_new"` (the tanh approximation of Google's
            models) or `"relu"`. `"gelu_pytorch_tanh"` is read as `"gelu_new"`.
        hidden_dropout_prob: dropout rate on embeddings and on both residual branches.
        attention_probs_dropout_prob: dropout rate on attention weights.
        max_position_embeddings: longest sequence, in word pieces.
        type_vocab_size: number of segment types.
        initializer_range: standard deviation of the truncated normal that fresh weights get.
        layer_norm_eps: epsilon of every layer normalization.

    Raises:
        ValueError: a field has a value of which no encoder can be built.

    Example:

    >>> BertConfig(vocab_size=100, hidden_size=12, num_attention_heads=3).head_size
    4

    Reference: [google-research/bert](https://github.com/google-research/bert), `modeling.py`.
    """

    vocab_size: int
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and (type(value) is not int or value < 1):
                raise ValueError(f"{field.name}={value!r}: give a whole number of at least 1")
            if field.type is float:
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                    raise ValueError(f"{field.name}={value!r}: give a number of at least 0")
                if field.name.endswith("_prob") and value >= 1:
                    raise ValueError(f"{field.name}={value!r}: give a rate below 1")
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act={self.hidden_act!r}: one of {', '.join(ACTIVATIONS)}")
        if self.hidden_act == "gelu_pytorch_tanh":
            object.__setattr__(self, "hidden_act", "gelu_new")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} does not divide "
                f"hidden_size={self.hidden_size}: choose a divisor"
            )

    @property
    def head_size(self):
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_dict(cls, values, huggingface=None):
        """The config that Google, Hugging Face or Model Garden wrote as `values`.

        Args:
            values: dict, the parsed `bert_config.json` or `config.json`. A file with
                `model_type` is Hugging Face's (and ours), any other is Google's or Model
                Garden's, where `"gelu"` means the tanh form.
            huggingface: True or False where it is known whose the file is.

        Returns:
            A `BertConfig`.

        Raises:
            ValueError: a key is missing, or would change the numbers and is not supported.
        """
        if huggingface is None:
            huggingface = any(k in values for k in ("model_type", "architectures", "layer_norm_eps"))
        values = {MODEL_GARDEN_NAMES.get(key, key): value for key, value in values.items()}
        names = {field.name for field in dataclasses.fields(cls)}
        for width in ("embedding_size", "embedding_width"):
            if values.pop(width, None) not in (None, values.get("hidden_size")):
                raise ValueError(f"{width} differs from hidden_size: factorised embeddings are not supported")
        unsupported = []
        for key, value in values.items():
            if key in names or key in IGNORED or key.startswith("_"):
                continue
            if key in REQUIRED_VALUES:
                if value not in (REQUIRED_VALUES[key], None):
                    unsupported.append(f"{key}={value!r} (only {REQUIRED_VALUES[key]!r})")
            elif value not in (None, False, "", [], {}):  # a feature that is off changes nothing
                unsupported.append(f"{key}={value!r} (unknown)")
        if unsupported:
            raise ValueError(
                f"the config has keys that this encoder does not support: {'; '.join(unsupported)}. "
                "If a key changes nothing in the encoder, remove it from the file"
            )
        values = {key: value for key, value in values.items() if key in names}
        if "vocab_size" not in values:
            raise ValueError("the config has no vocab_size: it is not the config of a BERT")
        if not huggingface:
            given = values.get("hidden_act", "gelu")
            values["hidden_act"] = GOOGLE_ACTIVATIONS.get(given, given)
        return cls(**values)

    @classmethod
    def from_json(cls, path, huggingface=None):
        """The config in the file `path`; see `from_dict`.

        Args:
            path: a `bert_config.json` or `config.json`.
            huggingface: see `from_dict`.

        Returns:
            A `BertConfig`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not JSON, or not the config of a supported BERT.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"there is no config {path}: check the path") from error
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{path} holds no JSON object: it is not the config of a BERT")
        try:
            return cls.from_dict(values, huggingface)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def to_dict(self):
        """The config as Hugging Face writes it; `from_dict` reads it back."""
        return {"model_type": "bert", **dataclasses.asdict(self)}
