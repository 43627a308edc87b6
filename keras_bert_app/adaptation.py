"""Change what of a pretrained BERT is trained, and which tokens it knows."""

import numpy as np
from keras import ops

from keras_bert_app.encoder import EMBEDDINGS, encoder_layers
from keras_bert_app.layers import PROJECTIONS


def freeze(model, num_layers=0, embeddings=True):
    """Keeps the embeddings and the lowest blocks of an encoder as they are in training.

    Call it before `compile` or `finetune`. It changes the layers themselves, so every model that
    shares them; `layer.trainable = True` thaws one.

    Args:
        model: an encoder, or a functional model that is built on the outputs of one.
        num_layers: how many blocks to freeze, from the lowest.
        embeddings: whether to freeze the word, position and type embeddings and their norm.

    Raises:
        ValueError: the encoder has not so many blocks, or there is none in the model.

    Example:

    ```python
    preprocessor, encoder = kba.from_pretrained("all-MiniLM-L6-v2")
    kba.freeze(encoder, num_layers=1)
    ```
    """
    layers = encoder_layers(model)
    blocks = _blocks(layers)
    if type(num_layers) is not int or not 0 <= num_layers <= len(blocks):
        raise ValueError(f"num_layers={num_layers!r}: give a whole number from 0 to {len(blocks)}")
    for layer in blocks[:num_layers]:
        layer.trainable = False
    if embeddings:
        for name in EMBEDDINGS:
            layers[name].trainable = False


def enable_lora(model, rank=8, alpha=None, projections=("query", "value")):
    """Makes training change an encoder by matrices of low rank alone.

    To the kernel of each chosen dense layer is added `alpha / rank` times the product of two
    matrices, `(inputs, rank)` and `(rank, outputs)`, of which the second starts at zero. They are
    all that is trained of the encoder; heads are trained as before. Call it before `compile` or
    `finetune`; it changes the layers themselves, so every model that shares them.

    A `.keras` file of the model holds the sums, in the precision of the computation: it loads
    without the matrices, with the same outputs.

    Args:
        model: an encoder, or a functional model that is built on the outputs of one.
        rank: the rank of the matrices.
        alpha: the weight of their product. Defaults to `rank`.
        projections: to which dense layers of every block: of `"query"`, `"key"`, `"value"`,
            `"attention_output"`, `"intermediate"` and `"output"`.

    Raises:
        ValueError: an argument is not possible, LoRA is active already, or there is no encoder
            in the model.

    Example:

    ```python
    preprocessor, encoder = kba.from_pretrained("all-MiniLM-L6-v2")
    classifier = kba.text_classifier(encoder, num_classes=2)
    kba.enable_lora(classifier, rank=4)
    classifier.compile("adamw", "sparse_categorical_crossentropy")  # and fit
    kba.merge_lora(classifier)
    ```

    Reference: [Hu et al., 2021](https://arxiv.org/abs/2106.09685)
    """
    if type(rank) is not int or rank < 1:
        raise ValueError(f"rank={rank!r}: give a whole number of at least 1")
    alpha = rank if alpha is None else alpha
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < np.inf:
        raise ValueError(f"alpha={alpha!r}: give a number above 0")
    names = list(projections)
    if isinstance(projections, str) or not names or not set(names) <= set(PROJECTIONS):
        raise ValueError(f"projections={projections!r}: give a tuple of names of {', '.join(PROJECTIONS)}")
    layers = encoder_layers(model)
    if lora_layers(layers):
        raise ValueError("LoRA is active in this model: call merge_lora first")
    for layer in layers.values():
        _thaw(layer)  # a frozen layer would freeze its new matrices too
        for variable in layer.trainable_variables:
            variable.trainable = False
    for block in _blocks(layers):
        for name in dict.fromkeys(names):
            block.projections[name].enable_lora(rank, lora_alpha=alpha)
    _forget_functions(model)


def merge_lora(model):
    """Adds what `enable_lora` trained to the kernels, and removes its matrices.

    In place, with the same outputs but for rounding. The encoder is then one as `bert_encoder`
    makes it, all of it trainable; compile the model again before training it.

    Args:
        model: an encoder, or a functional model that is built on the outputs of one.

    Raises:
        ValueError: LoRA is not active in the model, or there is no encoder in it.

    Example: see `enable_lora`.
    """
    layers = encoder_layers(model)
    dense_layers = lora_layers(layers)
    if not dense_layers:
        raise ValueError("LoRA is not active in this model: there is nothing to merge")
    for dense in dense_layers:
        dense._kernel.assign(merged_kernel(dense))
        # A compiled function of another model may still use it.
        dense.lora_kernel_b.assign(np.zeros(dense.lora_kernel_b.shape))
        for name in ("lora_kernel_a", "lora_kernel_b"):
            dense._untrack_variable(getattr(dense, name))
            setattr(dense, name, None)  # Keras collects garbage each time that a variable is deleted
            delattr(dense, name)
        dense.lora_enabled = False
        dense.lora_rank = dense.lora_alpha = None
    for layer in layers.values():
        _thaw(layer)
    _forget_functions(model)


def merged_kernel(dense):
    """The kernel of a dense layer with what LoRA adds to it, float32 whatever the layer computes in."""
    kernel, a, b = map(to_numpy, (dense._kernel, dense.lora_kernel_a, dense.lora_kernel_b))
    return kernel + dense.lora_alpha / dense.lora_rank * (a @ b)


def _blocks(layers):
    return [layer for name, layer in layers.items() if name.startswith("layer_")]


def lora_layers(layers):
    """The dense layers of the blocks that LoRA is active in."""
    dense_layers = [dense for block in _blocks(layers) for dense in block.projections.values()]
    return [dense for dense in dense_layers if dense.lora_enabled]


def _thaw(layer):
    # On TensorFlow, Keras passes over an assignment of the same value, and so over the layers inside.
    layer.trainable = False
    layer.trainable = True


def _forget_functions(model):
    """Makes Keras compile the model's functions anew: they may hold the layers as they were."""
    model.train_function = model.test_function = model.predict_function = None


def to_numpy(variable):
    """The value of a variable, float32."""
    return np.asarray(ops.convert_to_numpy(ops.cast(variable.value, "float32")))
