"""What a user gives as text, made into string tensors or an error that names the item."""

import keras
import tensorflow as tf


def is_symbolic(segments):
    """True if a functional model is being built: a segment is a `keras.KerasTensor`."""
    return any(isinstance(segment, keras.KerasTensor) for segment in segments)


def segments_of(text):
    """The segments in `text`: a tuple holds one item for each, anything else is one segment.

    A list of tensors is a tuple too: that is what Keras makes of one when a model is saved.
    """
    tensors = (tf.Tensor, keras.KerasTensor)
    if isinstance(text, list) and text and isinstance(text[0], tensors):
        text = tuple(text)
    return text if isinstance(text, tuple) else (text,)


def check_symbolic(text):
    """Raises ValueError unless `text` can be an input of a functional model, `(batch,)` of strings."""
    if not isinstance(text, keras.KerasTensor) or text.dtype != "string" or len(text.shape) != 1:
        raise ValueError(f"text is {text!r:.80}: give keras.Input(shape=(), dtype='string')")


def to_segments(text):
    """The segments in `text` as string tensors, see `segments_of` and `to_string_tensor`.

    Raises:
        ValueError: there is none, or they have different numbers of texts.
    """
    segments = tuple(to_string_tensor(segment) for segment in segments_of(text))
    if not segments:
        raise ValueError("text is an empty tuple: give a text, or a tuple with one item for each text")
    message = "the items of a tuple hold different numbers of texts: give as many of each"
    known = [segment.shape[0] for segment in segments]
    if len(set(known) - {None}) > 1:
        raise ValueError(f"{message}, not {', '.join(map(str, known))}")
    if None not in known:
        return segments
    first, *others = map(_num_texts, segments)
    checks = [tf.debugging.assert_equal(other, first, message) for other in others]
    with tf.control_dependencies(checks):  # before anything else stumbles over them
        return tuple(map(tf.identity, segments))


def _num_texts(segment):
    return segment.nrows(tf.int32) if isinstance(segment, tf.RaggedTensor) else tf.size(segment)


def to_string_tensor(text):
    """A string tensor `(batch,)` of one segment.

    Args:
        text: str or bytes (a batch of one), or a list, array or column of them, or a
            string tensor `(batch,)`; or a `tf.RaggedTensor` `(batch, words)` of strings.

    Returns:
        string `(batch,)`, or the `tf.RaggedTensor`.

    Raises:
        TypeError: an item is no text; the message names its index.
        ValueError: a tensor has another rank than 1, a `tf.RaggedTensor` than 2.
    """
    if isinstance(text, tf.Tensor | tf.RaggedTensor):
        if text.dtype != tf.string:
            raise TypeError(f"text is a tensor of {text.dtype.name}: give a tensor of strings")
        if isinstance(text, tf.RaggedTensor):
            if text.shape.rank != 2:
                raise ValueError(f"text is ragged of shape {text.shape}: give texts as words, (batch, words)")
            return text.with_row_splits_dtype(tf.int64)
        if text.shape.rank not in (1, None):
            raise ValueError(
                f"text has shape {text.shape}: give a batch of texts, shape (batch,). "
                "In tf.data, call batch() first"
            )
        # Without a check in the graph a text without batch axis crashes a model server.
        return tf.ensure_shape(text, [None])
    if isinstance(text, keras.KerasTensor):
        raise TypeError("text is a keras.Input: give texts, or call the layer itself")
    if isinstance(text, tf.data.Dataset):
        raise TypeError("text is a tf.data.Dataset: give dataset.batch(32).map(preprocessor)")
    if isinstance(text, str | bytes):
        text = [text]
    if not hasattr(text, "__iter__") or isinstance(text, dict | set) or getattr(text, "ndim", 1) != 1:
        raise TypeError(f"text is {text!r:.80} ({type(text).__name__}): give a string or a list of strings")
    items = []
    for index, item in enumerate(text):
        if isinstance(item, str):
            item = _encode(item)
        if not isinstance(item, bytes):
            raise TypeError(f"text {index} is {item!r:.80} ({type(item).__name__}): give a string")
        items.append(item)
    return tf.constant(items, "string", shape=(len(items),))


def _encode(text):
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a character, which no UTF-8 has
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
