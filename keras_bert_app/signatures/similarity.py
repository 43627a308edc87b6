"""Vectors of texts and the similarity of pairs, in the graph."""

import tensorflow as tf

from keras_bert_app.signatures.examples import of_examples


def similarity(model, preprocessor):
    """What an exported sentence encoder does.

    Args:
        model: `keras.Model` from the encoder's inputs to vectors `(batch, hidden)`.
        preprocessor: `BertPreprocessor`.

    Returns:
        Three functions with their signatures. `serving_default` takes `text`, string `(batch,)`, and returns
        `embedding`, float32 `(batch, hidden)`. `similarity` takes `text` and `text_pair` and returns
        `similarity`, float32 `(batch,)`, the cosine of their vectors. `regress` takes `inputs`, string
        `(batch,)`, serialized `tf.Example`s with both texts, and returns the same as `outputs`.
    """

    def vectors(text):
        return model(preprocessor(text), training=False)

    def serving_default(text):
        return {"embedding": vectors(text)}

    def of_pairs(text, text_pair):
        first, second = (tf.math.l2_normalize(vectors(given), axis=1) for given in (text, text_pair))
        return {"similarity": tf.reduce_sum(first * second, axis=1)}

    def regress(text, text_pair):
        return {"outputs": of_pairs(text, text_pair)["similarity"]}

    text, text_pair = (tf.TensorSpec([None], tf.string, name=name) for name in ("text", "text_pair"))
    return {
        "serving_default": (serving_default, [text]),
        "similarity": (of_pairs, [text, text_pair]),
        "regress": of_examples(("text", "text_pair"), regress),
    }
