"""The package's Keras objects by name, for files that hold them."""

from importlib.util import find_spec


def custom_objects():
    """What `keras.saving.load_model` needs to know to read a file with this package's layers.

    Returns:
        dict from registered name to class.

    Example:

    ```python
    import keras

    preprocessor, encoder = kba.from_pretrained("all-MiniLM-L6-v2")
    encoder.save("encoder.keras")
    encoder = keras.saving.load_model("encoder.keras", custom_objects=kba.custom_objects())
    ```
    """
    from keras_bert_app import activations, dense, dropout, heads, hub, layers, normalization, optimization
    from keras_bert_app.preprocessing import masking

    objects = [
        layers.PositionEmbedding,
        layers.SelfAttention,
        layers.TransformerBlock,
        activations.gelu_erf,
        activations.gelu_tanh,
        dense.Dense,
        dropout.Dropout,
        normalization.LayerNorm,
        heads.Bias,
        hub.HubSignature,
        optimization.FusedAdamW,
        optimization.WarmupLinearDecay,
        masking.MaskedLMMasker,
    ]
    if find_spec("tensorflow_text"):  # an encoder alone runs without
        from keras_bert_app.preprocessing import mask_positions, packing, tokenizer

        objects += [mask_positions.MaskPositions, packing.BertPreprocessor, tokenizer.BertTokenizer]
    return {f"{layers.PACKAGE}>{item.__name__}": item for item in objects}
