"""A pretrained BERT, by its handle: preprocessor and encoder."""

import dataclasses
import warnings
from pathlib import Path

from keras_bert_app import downloads, run_folder
from keras_bert_app.bundled import DEFAULT
from keras_bert_app.checkpoints import opening, tfhub
from keras_bert_app.checkpoints.checkpoint import fill
from keras_bert_app.encoder import encoder_config
from keras_bert_app.heads import mlm_numbers

ONLY_FOR_TRAINING = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")


def from_pretrained(
    handle=DEFAULT,
    sequence_length=None,
    dtype=None,
    head=None,
    output_attentions=False,
    rematerialize=False,
    ignore=(),
    offline=False,
):
    """The preprocessor and the encoder of a pretrained BERT.

    Args:
        handle: what `open_checkpoint` takes: a short name such as `"bert_base_en_uncased"`, the
            address of a model, a local folder or archive. Defaults to `"bert_mini_reviews"`, a BERT
            of 4 layers of 256 that comes with the package.
        sequence_length: word pieces of the longest input. Defaults to what the preprocessing model
            of a TF-Hub pair packs to, or to that of a run of `finetune`, or else to the most that the
            encoder takes.
        dtype: Keras dtype policy of the encoder, such as `"mixed_bfloat16"`. Defaults to
            `keras.config.dtype_policy()`.
        head: None for the encoder alone, or the head that the weights have too: `"pretrainer"`,
            `"text_classifier"`, `"token_classifier"` or `"span_classifier"`, as the functions of
            these names build them.
        output_attentions, rematerialize: see `bert_encoder`.
        ignore: patterns of names of tensors that are left out, of a head of another kind, say.
        offline: True to make no request: what is not in the cache is an error.

    Returns:
        `(preprocessor, encoder)`: a `BertPreprocessor` that pads to the longest text of each
        batch, and a `keras.Model`, see `bert_encoder`; with `head` the model of that function.

    Raises:
        FileNotFoundError: there is no such folder, or a file is missing in it.
        ValueError: a file is damaged or not supported, a tensor is missing, of the wrong shape or
            of no use, or `sequence_length` is more than the encoder takes.
        OSError: the download failed.

    Example:

    ```python
    preprocessor, encoder = kba.from_pretrained()
    encoder(preprocessor(["a great film"]))["pooled_output"]  # (1, 256)

    preprocessor, encoder = kba.from_pretrained("all-MiniLM-L6-v2", sequence_length=128)
    ```
    """
    checkpoint = open_checkpoint(handle, offline)
    preprocessor = build_preprocessor(checkpoint, sequence_length)
    options = {"output_attentions": output_attentions, "rematerialize": rematerialize}
    return preprocessor, checkpoint.build(head, dtype, ignore, **options)[1]


def open_checkpoint(handle, offline=False):
    """What a handle names: its format, config, tokenizer, heads and labels.

    No weight is read before it is needed, but for those of a run folder.

    Args:
        handle: one of

            - a local folder or archive (`.tar.gz`, `.tar`, `.zip`) with a Hugging Face model, a
              checkpoint of Google's or of the Model Garden, a TF-Hub encoder, a KerasHub preset,
              what `save_checkpoint` wrote, or what `finetune` did; or the prefix of a TensorFlow
              checkpoint, `".../bert_model.ckpt"`.
            - `"https://tfhub.dev/..."`, `"kaggle://..."`, `"hf://..."`, `"gs://..."` or
              `"https://....tar.gz"`; see `download`.
            - a short name, such as `"bert_base_en_uncased"`: `keras-bert models` lists them.
            - for a TF-Hub pair, a tuple of the handles of the preprocessing model and the encoder.
        offline: True to make no request.

    Returns:
        `Checkpoint` with `format`, `config`, `heads`, `labels`, `tokenizer` and `sequence_length`.

    Raises:
        FileNotFoundError, ValueError, OSError: see `from_pretrained`.

    Example:

    ```python
    kba.open_checkpoint("all-MiniLM-L6-v2").config.num_hidden_layers  # 6
    ```
    """
    if isinstance(handle, tuple):
        if len(handle) != 2:
            raise ValueError(f"handle={handle!r}: a pair is (preprocessing model, encoder)")
        preprocess, encoder = (downloads.download(item, offline) for item in handle)
        return tfhub.read(encoder, preprocess)
    folder = downloads.download(handle, offline)
    if run_folder.is_one(folder):
        return run_folder.as_checkpoint(folder)
    return opening.open_folder(folder)


def load_checkpoint(model, handle, ignore=(), offline=False):
    """Fills a model with the weights of a checkpoint of any format.

    Args:
        model: from `bert_encoder`, `pretrainer`, `text_classifier`, `token_classifier` or
            `span_classifier`.
        handle: see `open_checkpoint`.
        ignore, offline: see `from_pretrained`.

    Raises:
        FileNotFoundError, ValueError, OSError: see `from_pretrained`.

    Example:

    ```python
    encoder = kba.bert_encoder(kba.BertConfig.from_json("uncased_L-12_H-768_A-12/bert_config.json"))
    kba.load_checkpoint(encoder, "uncased_L-12_H-768_A-12/bert_model.ckpt")
    ```
    """
    checkpoint = open_checkpoint(handle, offline)
    given = (encoder_config(model), mlm_numbers(model)), (checkpoint.config, checkpoint.mlm_numbers)
    ours, theirs = (
        dataclasses.asdict(config) | dict(zip(("mlm_activation", "mlm_epsilon"), head, strict=True))
        for config, head in given
    )
    for name, value in ours.items():
        if value not in (theirs[name], None) and name not in ONLY_FOR_TRAINING:
            raise ValueError(
                f"the model has {name}={value!r}, {checkpoint.tensors.path} was trained with "
                f"{theirs[name]!r}: build the model with the checkpoint's config"
            )
    fresh = fill(model.weights, checkpoint, ignore)
    if fresh:
        warnings.warn(f"{checkpoint.tensors.path} has no pooler: it keeps its weights", stacklevel=2)


def is_loaded(model):
    """True for `(preprocessor, encoder)` of `from_pretrained`; a handle may be a tuple of paths."""
    return isinstance(model, tuple) and not any(isinstance(part, str | Path) for part in model)


def build_preprocessor(checkpoint, sequence_length=None):
    """The `BertPreprocessor` of a checkpoint; see `from_pretrained`."""
    from keras_bert_app.preprocessing.packing import BertPreprocessor
    from keras_bert_app.preprocessing.tokenizer import BertTokenizer

    where, words = checkpoint.tensors.path.parent, checkpoint.config.vocab_size
    if checkpoint.tokenizer is None:
        raise FileNotFoundError(f"{where} has no vocabulary: put vocab.txt beside the weights")
    tokenizer = BertTokenizer(**checkpoint.tokenizer)
    if tokenizer.vocabulary_size > words:
        raise ValueError(
            f"{where}: its vocabulary has {tokenizer.vocabulary_size} tokens, its config says "
            f"vocab_size={words}: they are not of the same model"
        )
    longest = checkpoint.config.max_position_embeddings
    if sequence_length is None:
        sequence_length = min(checkpoint.sequence_length or longest, longest)
    _check_length(sequence_length, longest)
    return BertPreprocessor(tokenizer, sequence_length, truncation=checkpoint.truncation or "longest_first")


def check_sequence_length(sequence_length, encoder):
    """Raises ValueError if `encoder` does not take so many word pieces."""
    _check_length(sequence_length, encoder.get_layer("position_embeddings").max_length)


def _check_length(sequence_length, longest):
    if sequence_length > longest:
        raise ValueError(f"sequence_length={sequence_length}: this encoder takes at most {longest}")
