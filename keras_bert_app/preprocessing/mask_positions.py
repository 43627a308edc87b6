"""Where a text has its masks."""

import keras
import tensorflow as tf

from keras_bert_app.preprocessing.vocabulary_file import PACKAGE


@keras.saving.register_keras_serializable(PACKAGE)
class MaskPositions(keras.layers.Layer):
    """Adds the positions of `[MASK]` to the inputs of BERT, for a masked language model.

    Args:
        mask_id: the id of `[MASK]`.

    Call arguments:
        inputs: dict with `input_word_ids`, int32 `(batch, length)`.

    Returns:
        The dict with `masked_lm_positions`, int32 `(batch, most)`, besides: 0, which is the position of
        `[CLS]`, where a text has fewer than another.

    Example:

    >>> MaskPositions(4)({"input_word_ids": tf.constant([[2, 4, 7, 4, 3], [2, 7, 4, 3, 0]])})[
    ...     "masked_lm_positions"].numpy()
    array([[1, 3],
           [2, 0]], dtype=int32)
    """

    def __init__(self, mask_id, **kwargs):
        super().__init__(**kwargs)
        self.mask_id = mask_id
        self.built = True  # there are no weights

    def call(self, inputs):
        ids = inputs["input_word_ids"]
        is_mask = tf.equal(ids, self.mask_id)
        positions = tf.broadcast_to(tf.range(tf.shape(ids)[1]), tf.shape(ids))
        return {**inputs, "masked_lm_positions": tf.ragged.boolean_mask(positions, is_mask).to_tensor()}

    def compute_output_spec(self, inputs):
        batch = inputs["input_word_ids"].shape[0]
        same = {name: keras.KerasTensor(given.shape, given.dtype) for name, given in inputs.items()}
        return {**same, "masked_lm_positions": keras.KerasTensor((batch, None), "int32")}

    def get_config(self):
        return {**super().get_config(), "mask_id": self.mask_id}
