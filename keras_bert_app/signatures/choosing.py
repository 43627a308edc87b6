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
        string `(batch,)`; `index`, int32 `(batch,)`; `score`, float32 `(batch,)`; and `probabilities`,
        float32 `(batch, choices)`, 0 for empty ones.
    """

    def serving_default(text, choices):
        text, choices = tf.ensure_shape(text, [None]), tf.ensure_shape(choices, [None, None])
        is_one = choices != ""
        pairs = tf.repeat(text, tf.reduce_sum(tf.cast(is_one, tf.int32), axis=1))
        found = model(preprocessor((pairs, tf.boolean_mask(choices, is_one))), training=False)[:, 0]
        never = tf.fill(tf.shape(choices), NEVER)
        logits = tf.tensor_scatter_nd_update(never, tf.where(is_one), found)
        probabilities = tf.nn.softmax(logits)
        index = tf.argmax(probabilities, axis=1, output_type=tf.int32)
        return {
            "choice": tf.gather(choices, index, batch_dims=1),
            "index": index,
            "score": tf.reduce_max(probabilities, axis=1),
            "probabilities": tf.where(is_one, probabilities, 0.0),
        }

    signature = [
        tf.TensorSpec([None], tf.string, name="text"),
        tf.TensorSpec([None, None], tf.string, name="choices"),
    ]
    return {"serving_default": (serving_default, signature)}
