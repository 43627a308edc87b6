"""A pretrained BERT, by its handle: preprocessor and encoder."""

from pathlib import Path

from keras_bert_app.checkpoints import huggingface


def from_pretrained(handle, sequence_length=None, dtype=None):
    """The preprocessor and the encoder of a pretrained BERT.

    Args:
        handle: a folder in Hugging Face's format: `config.json`, `model.safetensors`,
            `vocab.txt` and, mostly, `tokenizer_config.json`.
        sequence_length: word pieces of the longest input. Defaults to the most that the
            encoder takes.
        dtype: Keras dtype policy of the encoder, such as `"mixed_bfloat16"`. Defaults to
            `keras.config.dtype_policy()`.

    Returns:
        `(preprocessor, encoder)`: a `BertPreprocessor` that pads to the longest text of each
        batch, and a `keras.Model`, see `bert_encoder`.

    Raises:
        FileNotFoundError: there is no such folder, or a file is missing in it.
        ValueError: a file is damaged or not supported, or `sequence_length` is more than the
            encoder takes.

    Example:

    ```python
    preprocessor, encoder = kba.from_pretrained("all-MiniLM-L6-v2", sequence_length=128)
    encoder(preprocessor(["a great film"]))["pooled_output"]
    ```
    """
    from keras_bert_app.preprocessing.packing import BertPreprocessor
    from keras_bert_app.preprocessing.tokenizer import BertTokenizer

    folder = Path(handle)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}: give one with config.json and model.safetensors"
        )
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json: it is no folder of a pretrained BERT")
    tokenizer = BertTokenizer(**huggingface.read_tokenizer_options(folder))
    encoder = huggingface.read_encoder(folder, dtype)
    words = encoder.get_layer("word_embeddings").input_dim
    if tokenizer.vocabulary_size > words:
        raise ValueError(
            f"{folder}: vocab.txt has {tokenizer.vocabulary_size} tokens, config.json says "
            f"vocab_size={words}: they are not of the same model"
        )
    longest = encoder.get_layer("position_embeddings").max_length
    sequence_length = longest if sequence_length is None else sequence_length
    check_sequence_length(sequence_length, encoder)
    return BertPreprocessor(tokenizer, sequence_length), encoder


def check_sequence_length(sequence_length, encoder):
    """Raises ValueError if `encoder` does not take so many word pieces."""
    longest = encoder.get_layer("position_embeddings").max_length
    if sequence_length > longest:
        raise ValueError(f"sequence_length={sequence_length}: this encoder takes at most {longest}")
