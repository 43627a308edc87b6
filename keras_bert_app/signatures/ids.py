"""The encoder's inputs to the model's raw outputs, for who has a tokenizer already."""

import tensorflow as tf


def by_ids(model, name, vocab_size):
    """A signature without preprocessing.

    Args:
        model: `keras.Model` from a dict of int32 inputs `(batch, length)`.
        name: of its output, if it is one tensor.
        vocab_size: how many word pieces it knows.

    Returns:
        `(function, signature)`; the function takes the inputs of the model and returns float32 tensors.
    """
    names = list(model.input)

    def ids(*tensors):
        inputs = dict(zip(names, tensors, strict=True))
        words = inputs["input_word_ids"]
        # On a GPU an id that is too large would be read as zeros.
        is_known = tf.debugging.assert_equal(
            tf.reduce_all((words >= 0) & (words < vocab_size)),
            True,
            f"input_word_ids must be from 0 to {vocab_size - 1}",
        )
        with tf.control_dependencies([is_known]):
            outputs = model(inputs, training=False)
        outputs = outputs if isinstance(outputs, dict) else {name: outputs}
        return {key: tf.cast(value, tf.float32) for key, value in outputs.items()}

    return ids, [tf.TensorSpec([None, None], tf.int32, name=name) for name in names]
