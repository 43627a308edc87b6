"""Change what of a pretrained BERT is trained, and which tokens it knows."""

import dataclasses

import numpy as np
from keras import ops

from keras_bert_app.encoder import EMBEDDINGS, bert_encoder, encoder_config, encoder_layers
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
    if _lora_layers(layers):
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
    dense_layers = _lora_layers(layers)
    if not dense_layers:
        raise ValueError("LoRA is not active in this model: there is nothing to merge")
    for dense in dense_layers:
        kernel, a, b = map(_to_numpy, (dense._kernel, dense.lora_kernel_a, dense.lora_kernel_b))
        dense._kernel.assign(kernel + dense.lora_alpha / dense.lora_rank * (a @ b))
        # A compiled function of another model may still use it.
        dense.lora_kernel_b.assign(np.zeros_like(b))
        for name in ("lora_kernel_a", "lora_kernel_b"):
            dense._untrack_variable(getattr(dense, name))
            setattr(dense, name, None)  # Keras collects garbage each time that a variable is deleted
            delattr(dense, name)
        dense.lora_enabled = False
        dense.lora_rank = dense.lora_alpha = None
    for layer in layers.values():
        _thaw(layer)
    _forget_functions(model)


def resize_vocabulary(preprocessor, encoder, new_tokens):
    """A preprocessor and an encoder that know more tokens; those given stay as they are.

    The tokens get the ids after the last one of the vocabulary. Where the encoder has more rows
    than the vocabulary has tokens, those rows are used up before new ones are added. Each new
    token starts from the mean of the word embeddings that the vocabulary had; all other weights
    are copied.

    A token such as `"[ENT]"`, in brackets, becomes one of the tokenizer's `special_tokens`: it
    stands for itself wherever it is written, in just these letters. Any other must be a word as
    the tokenizer splits text, or, after `##`, the rest of one.

    Args:
        preprocessor: `BertPreprocessor`.
        encoder: from `bert_encoder` or `from_pretrained`, before a head is built on it.
        new_tokens: list of tokens that the vocabulary does not hold.

    Returns:
        `(preprocessor, encoder)`, new ones with the same options. What was frozen is frozen.

    Raises:
        ValueError: a token is in the vocabulary, is no token of its own, or would never be found
            in a text; the vocabulary is not that of the encoder; or the encoder is a model with a head.

    Example:

    ```python
    preprocessor, encoder = kba.from_pretrained("all-MiniLM-L6-v2")
    preprocessor, encoder = kba.resize_vocabulary(preprocessor, encoder, ["[ENT]", "covid", "##itis"])
    ```
    """
    layers = encoder_layers(encoder)
    outputs = encoder.output
    if not isinstance(outputs, dict) or "sequence_output" not in outputs:
        raise ValueError(f"{encoder.name!r} is no encoder: resize it before a head is built on it")
    if _lora_layers(layers):
        raise ValueError("LoRA is active in this encoder: call merge_lora first")
    config, known = encoder_config(encoder), preprocessor.tokenizer.vocabulary_size
    if known > config.vocab_size:
        raise ValueError(
            f"the vocabulary has {known} tokens, the encoder rows for {config.vocab_size}: give the "
            "preprocessor and the encoder of one model"
        )
    new_tokens = _check_new_tokens(preprocessor.tokenizer, new_tokens)
    end = known + len(new_tokens)
    resized = bert_encoder(
        dataclasses.replace(config, vocab_size=max(config.vocab_size, end)),
        layers["word_embeddings"].dtype_policy,
        output_attentions="attentions" in outputs,
        rematerialize=layers["layer_0"].rematerialize,
    )
    for name, layer in encoder_layers(resized).items():
        layer.trainable = layers[name].trainable
        for variable, old in zip(layer.variables, layers[name].variables, strict=True):
            variable.trainable = old.trainable
            if name != "word_embeddings":
                variable.assign(old.value)
    rows = _to_numpy(layers["word_embeddings"].embeddings)
    table = np.empty((resized.get_layer("word_embeddings").input_dim, config.hidden_size), rows.dtype)
    table[: len(rows)] = rows
    table[known:end] = rows[:known].mean(axis=0, dtype="float64")
    resized.get_layer("word_embeddings").embeddings.assign(table)
    tokenizer = _with_tokens(preprocessor.tokenizer, new_tokens)
    return preprocessor.replace(tokenizer=tokenizer), resized


def _check_new_tokens(tokenizer, tokens):
    """The tokens as a list, if each can be a new one of the tokenizer."""
    if isinstance(tokens, str) or not tokens:
        raise ValueError(f"new_tokens={tokens!r}: give a list of tokens")
    tokens, known = list(tokens), set(tokenizer.vocabulary)
    for index, token in enumerate(tokens):
        if not isinstance(token, str) or not token.strip():
            raise ValueError(f"token {index} of new_tokens is {token!r}: give a string that is not blank")
        if token in known:
            raise ValueError(f"{token!r} is twice in new_tokens, or in the vocabulary already: leave it out")
        known.add(token)
    words = {token: token.removeprefix("##") for token in tokens if not _is_bracketed(token)}
    changed = _not_words(tokenizer, words.values())
    for token, word in words.items():
        if word in changed:
            raise ValueError(
                f"{token!r} would never be found in a text, which the tokenizer changes or splits there: "
                "give a word as the tokenizer makes it, or a token in brackets, such as [ENT]"
            )
    return tokens


def _is_bracketed(token):
    return token.startswith("[") and token.endswith("]") and len(token) > 2


def _not_words(tokenizer, texts):
    """Those of some texts that the tokenizer does not take for one word and leave as it is."""
    from keras_bert_app.preprocessing.vocabulary_file import SPECIAL_TOKENS

    texts = set(texts)
    words = sorted(text for text in texts if text.strip())
    # With a letter: tensorflow-text refuses a vocabulary without any word.
    alone = _with_vocabulary(tokenizer, dict.fromkeys((*SPECIAL_TOKENS, "a", *words)))
    found = alone(words).to_list() if words else []
    return texts - {word for word, ids in zip(words, found, strict=True) if ids == [alone.token_to_id(word)]}


def _with_tokens(tokenizer, tokens):
    special = (*tokenizer.special_tokens, *filter(_is_bracketed, tokens))
    return _with_vocabulary(tokenizer, (*tokenizer.vocabulary, *tokens), special)


def _with_vocabulary(tokenizer, vocabulary, special_tokens=()):
    """A tokenizer with the options of another one."""
    from keras_bert_app.preprocessing.tokenizer import BertTokenizer

    return BertTokenizer(
        list(vocabulary),
        lowercase=tokenizer.lowercase,
        strip_accents=tokenizer.strip_accents,
        max_input_chars_per_word=tokenizer.max_input_chars_per_word,
        special_tokens=special_tokens,
    )


def _blocks(layers):
    return [layer for name, layer in layers.items() if name.startswith("layer_")]


def _lora_layers(layers):
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


def _to_numpy(variable):
    return np.asarray(ops.convert_to_numpy(ops.cast(variable.value, "float32")))
