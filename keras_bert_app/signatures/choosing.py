"""The choice that fits a text, in the graph."""

import tensorflow as tf

NEVER = -1e9  # the logit of what is no choice


def choosing(model, preprocessor):
    """What an exported model of multiple choice does.

    Args:
        model: `keras.Model` from the encoder's inputs to logits `(batch, 1)`.
        preprocessor: `BertPreprocessor`.

    Returns:
        `{"serving_default": (function, signature)}`. The function takes `text`, string `(batch,)`, and
        `choices`, string `(batch, choices)`, empty where a text has fewer than others. It returns `choice`,
        string `(batch,)`; `index`, int32 `(batch,)`, -1 without a choice; `score`, float32 `(batch,)`; and
        `probabilities`, float32 `(batch, choices)`, 0 for empty ones.
    """

    def serving_default(text, choices):
        text, choices = tf.ensure_shape(text, [None]), tf.ensure_shape(choices, [None, None])
        number = tf.shape(choices)[1]
        choices = tf.pad(choices, [[0, 0], [0, 1]])  # there may be none
        is_one = choices != ""
        pairs = tf.repeat(text, tf.reduce_sum(tf.cast(is_one, tf.int32), axis=1))
        found = model(preprocessor((pairs, tf.boolean_mask(choices, is_one))), training=False)[:, 0]
        never = tf.fill(tf.shape(choices), NEVER)
        logits = tf.tensor_scatter_nd_update(never, tf.where(is_one), found)
        probabilities = tf.where(is_one, tf.nn.softmax(logits), 0.0)
        index = tf.argmax(logits, axis=1, output_type=tf.int32)
        return {
            "choice": tf.gather(choices, index, batch_dims=1),
            "index": tf.where(tf.reduce_any(is_one, axis=1), index, -1),
            "score": tf.reduce_max(probabilities, axis=1),
            "probabilities": probabilities[:, :number],
        }

    signature = [
        tf.TensorSpec([None], tf.string, name="text"),
        tf.TensorSpec([None, None], tf.string, name="choices"),
    ]
    return {"serving_default": (serving_default, signature)}
