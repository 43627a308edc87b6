"""Add tokens to a vocabulary, and their rows to the word embeddings of its encoder."""

import dataclasses

import numpy as np

from keras_bert_app.adaptation import lora_layers, to_numpy
from keras_bert_app.encoder import bert_encoder, encoder_config, encoder_layers


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
    if lora_layers(layers):
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
    rows = to_numpy(layers["word_embeddings"].embeddings)
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
