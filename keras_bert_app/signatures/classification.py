"""Labels, or numbers, of texts, in the graph."""

import tensorflow as tf

from keras_bert_app.preprocessing.packing import NAMES
from keras_bert_app.signatures.examples import of_examples


def classification(model, preprocessor, text_inputs, labels, stride, threshold):
    """What an exported text classifier does.

    Args:
        model: `keras.Model` from the encoder's inputs to logits `(batch, num_classes)`.
        preprocessor: `BertPreprocessor`.
        text_inputs: the names of one or two texts.
        labels: the label of each column, or None for a model that gives a number.
        stride: None, or see `TextClassification`.
        threshold: None for one label; the probability from which on one of several is given.

    Returns:
        Two functions with their signatures. `serving_default` takes `text`, string `(batch,)`,
        and for pairs `text_pair`. It returns `classes`, string `(batch, num_classes)`, and
        `probabilities`, float32 `(batch, num_classes)`; for one label also `label`, string
        `(batch,)`, and `score`, float32 `(batch,)`, its probability; for several `labels`, string
        `(batch, num_classes)`, the likeliest first and then empty strings, and `count`, int32
        `(batch,)`, how many they are. Of numbers it returns `value`, float32 `(batch,)`, alone.
        `classify` takes `inputs`, string `(batch,)`, serialized `tf.Example`s with the texts, and
        returns `classes` and `scores`, the probabilities; for numbers there is `regress` instead,
        which returns `outputs`, float32 `(batch,)`.
    """
    names = None if labels is None else tf.constant([str(label) for label in labels])

    def logits_of(text):
        if stride is None:
            return model(preprocessor(text), training=False)
        packed = preprocessor.windows(text, stride)
        logits = model({name: packed[name] for name in NAMES}, training=False)
        number = tf.size(text[0] if isinstance(text, tuple) else text)
        return tf.math.unsorted_segment_mean(logits, packed["rows"], number)

    def answer(logits):
        if names is None:
            return {"value": logits[:, 0]}
        probabilities = tf.nn.softmax(logits) if threshold is None else tf.sigmoid(logits)
        classes = tf.broadcast_to(names, tf.shape(probabilities))
        found = {"classes": classes, "probabilities": probabilities}
        if threshold is None:
            found["label"] = tf.gather(names, tf.argmax(probabilities, axis=1))
            found["score"] = tf.reduce_max(probabilities, axis=1)
            return found
        order = tf.argsort(probabilities, axis=1, direction="DESCENDING", stable=True)
        given = tf.gather(probabilities, order, batch_dims=1) >= threshold
        found["labels"] = tf.where(given, tf.gather(names, order), "")
        found["count"] = tf.reduce_sum(tf.cast(given, tf.int32), axis=1)
        return found

    def one(text):
        return answer(logits_of(text))

    def two(text, text_pair):
        return answer(logits_of((text, text_pair)))

    serving_default = one if len(text_inputs) == 1 else two

    def classify(*texts):
        found = serving_default(*texts)
        return {"classes": found["classes"], "scores": found["probabilities"]}

    def regress(*texts):
        return {"outputs": serving_default(*texts)["value"]}

    texts = [tf.TensorSpec([None], tf.string, name=name) for name in text_inputs]
    of_example = classify if names is not None else regress
    return {
        "serving_default": (serving_default, texts),
        of_example.__name__: of_examples(text_inputs, of_example),
    }
