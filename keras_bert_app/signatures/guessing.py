"""The words that are masked in texts, in the graph."""

import tensorflow as tf

from keras_bert_app.preprocessing.mask_positions import MaskPositions


def guessing(model, preprocessor, candidates, top_k):
    """What an exported masked language model does.

    Args:
        model: `keras.Model` from the encoder's inputs and `masked_lm_positions` to logits
            `(batch, predictions, vocab_size)`.
        preprocessor: `BertPreprocessor` whose tokenizer knows `[MASK]`.
        candidates: int `(candidates,)`, the ids that are ranked.
        top_k: guesses for each `[MASK]`.

    Returns:
        `{"serving_default": (function, signature)}`. The function takes `text`, string `(batch,)`, and
        returns `count`, int32 `(batch,)`, how many `[MASK]` each has within the longest input; and, padded
        with empty strings and 0, `token`, string, and `score`, float32, the likeliest word pieces and their
        probabilities, `(batch, most, top_k)`.
    """
    tokenizer = preprocessor.tokenizer
    tokens = tf.constant([tokenizer.id_to_token(int(index)) for index in candidates])
    find = MaskPositions(tokenizer.token_to_id("[MASK]"))

    def serving_default(text):
        text = tf.ensure_shape(text, [None])
        number = tf.size(text)
        text = tf.cond(number > 0, lambda: text, lambda: tf.constant([""]))  # the head needs one
        packed = find(preprocessor(text))
        probabilities = tf.nn.softmax(model(packed, training=False))
        scores, best = tf.math.top_k(tf.gather(probabilities, candidates, axis=-1), top_k)
        is_one = (packed["masked_lm_positions"] > 0)[..., None]
        found = {
            "count": tf.reduce_sum(tf.cast(is_one[..., 0], tf.int32), axis=1),
            "token": tf.where(is_one, tf.gather(tokens, best), ""),
            "score": tf.where(is_one, scores, 0.0),
        }
        return {name: tensor[:number] for name, tensor in found.items()}

    return {"serving_default": (serving_default, [tf.TensorSpec([None], tf.string, name="text")])}
