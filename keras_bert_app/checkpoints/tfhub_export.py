"""A BERT as the two SavedModels of TF-Hub: one from text to inputs, one from inputs to vectors."""

import tempfile
import warnings
from pathlib import Path

import keras
import tensorflow as tf

from keras_bert_app import files
from keras_bert_app import heads as builders
from keras_bert_app.checkpoints import names, writing
from keras_bert_app.encoder import ACTIVATIONS, bert_encoder
from keras_bert_app.fusing import nothing_fused
from keras_bert_app.preprocessing import assembly
from keras_bert_app.preprocessing.packing import NAMES
from keras_bert_app.preprocessing.truncation import STRATEGIES
from keras_bert_app.preprocessing.vocabulary_file import VOCABULARY_FILE

HEADS = ("masked_lm",)
SPECIAL_TOKENS = {
    "start_of_sequence_id": "[CLS]",
    "end_of_segment_id": "[SEP]",
    "padding_id": "[PAD]",
    "mask_id": "[MASK]",
}
ASSETS = {  # by attribute; encoders of TF-Hub have the first, and `do_lower_case`
    "vocab_file": VOCABULARY_FILE,
    "bert_config": "bert_config.json",
    "mlm_config": "mlm_config.json",
    "tokenizer_config": "tokenizer_config.json",
}
SENTENCES = tf.TensorSpec([None], tf.string, "sentences")
IDS = {name: tf.TensorSpec([None, None], tf.int32, name) for name in NAMES}


def write(model, config, folder, preprocessor, labels=None):
    """Writes TF-Hub's pair of SavedModels, `folder/encoder` and `folder/preprocess`.

    `hub.load` and `tf.saved_model.load` read them without this package, the second after
    `import tensorflow_text`. They are called as every BERT of TF-Hub:

    - `preprocess(texts)`: string `(batch,)` to the dict of encoder inputs, int32
      `(batch, sequence_length)`. For pairs `preprocess.tokenize(texts)`, int32 ragged
      `(batch, words, pieces)`, and `preprocess.bert_pack_inputs([a, b], seq_length=64)`. Ids are in
      `preprocess.tokenize.get_special_tokens_dict()`.
    - `encoder(inputs, training=False)`: float32 `pooled_output` and `default`, the same
      `(batch, hidden)`; `sequence_output` `(batch, length, hidden)`; and the list
      `encoder_outputs` with the same of every block. It can be trained further: it has
      `trainable_variables`.
    - `encoder.mlm(inputs)`, if the model has a masked language model: with `masked_lm_positions`,
      int32 `(batch, predictions)`, also `mlm_logits` `(batch, predictions, vocab_size)`.

    Weights and numbers are float32, whatever the model's precision. The encoder's variables have
    the names of this package. If the model has no pooler, as one with a masked language model
    alone, a warning says that `pooled_output` is of fresh weights.

    Args:
        model: an encoder, or a model with a head.
        config: `BertConfig` of the model.
        folder: where to.
        preprocessor: `BertPreprocessor`; its `sequence_length` is what `preprocess` pads to.
        labels: not used: the format has no place for them.

    Raises:
        ValueError: the model takes fewer word pieces than the preprocessor gives, or Keras has
            another backend than TensorFlow.
        OSError: `folder` cannot be written.

    Reference: [TF-Hub's text interface](https://www.tensorflow.org/hub/common_saved_model_apis/text).
    """
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"SavedModels cannot be written with the {keras.config.backend()} backend of Keras: "
            "set KERAS_BACKEND=tensorflow"
        )
    length, longest = preprocessor.sequence_length, config.max_position_embeddings
    if length > longest:
        raise ValueError(
            f"sequence_length={length}: this encoder takes at most {longest}. "
            f"Give preprocessor.replace(sequence_length={longest})"
        )
    roots = {"encoder": _encoder(model, config), "preprocess": _preprocess(preprocessor)}
    inputs = {"encoder": IDS, "preprocess": SENTENCES}
    tokenizer = preprocessor.tokenizer
    options = {
        "do_lower_case": tokenizer.lowercase,
        "strip_accents": tokenizer.strip_accents,
        "max_input_chars_per_word": tokenizer.max_input_chars_per_word,
        "special_tokens": list(tokenizer.special_tokens),
    }
    head = dict(zip(("mlm_activation", "mlm_epsilon"), builders.mlm_numbers(model), strict=True))
    with tempfile.TemporaryDirectory() as assets:
        assets = Path(assets)
        tokenizer.save_assets(assets)
        files.write_json(assets / ASSETS["bert_config"], config.to_dict())
        files.write_json(assets / ASSETS["mlm_config"], head)
        files.write_json(assets / ASSETS["tokenizer_config"], options)
        for name, root in roots.items():
            root.do_lower_case = tf.Variable(tokenizer.lowercase, trainable=False, name="do_lower_case")
            for attribute, file in ASSETS.items():
                setattr(root, attribute, tf.saved_model.Asset(str(assets / file)))
            try:
                tf.saved_model.save(root, str(Path(folder) / name), _signature(root, inputs[name]))
            except tf.errors.OpError as error:  # a full disk, for one
                raise OSError(error.message) from error


def _encoder(model, config):
    """The object that is saved as `encoder`, a float32 copy of the model."""
    heads = writing.heads_of(model)
    encoder = bert_encoder(config, dtype="float32")
    outputs = {**encoder.output, "default": encoder.output["pooled_output"]}
    models = [keras.Model(encoder.input, outputs)]
    if "masked_lm" in heads:
        activations = {function: name for name, function in ACTIVATIONS.items()}
        pretrainer = builders.pretrainer(
            encoder,
            HEADS,
            activation=activations[model.get_layer("mlm_dense").activation],
            epsilon=model.get_layer("mlm_norm").epsilon,
        )
        models.append(keras.Model(pretrainer.input, {**outputs, **pretrainer.output}))
    skip = [head for head in heads if head not in HEADS]
    values = dict(writing.stored(model, names.KERAS_BERT_APP, config, skip))
    variables = {v.path: v for root in models for v in root.trainable_variables}
    missing = [path for path in variables if path not in values]
    if missing:
        warnings.warn(
            f"the model has no {', '.join(missing)}: in the SavedModel they are fresh weights", stacklevel=4
        )
    for path in variables.keys() - missing:
        variables[path].assign(values[path])
    root, *others = map(_trainable, models)
    for mlm in others:
        root.mlm = mlm
    return root


def _trainable(model):
    """An object with all that TF-Hub calls, trains and saves of a model."""
    inputs = {name: tf.TensorSpec([None, None], tf.int32, name) for name in model.input}
    root = _callable(lambda inputs, training: model(inputs, training=training), inputs)
    # TensorFlow's own variables, each by its name. The states of dropout are among them.
    root.variables = [variable.value for variable in model.variables]
    root.trainable_variables = [variable.value for variable in model.trainable_variables]
    root.regularization_losses = []
    return root


def _callable(function, inputs):
    """An object that is called as Keras 2 models are, with `(inputs, training=False)`."""

    @tf.function(autograph=False)
    @nothing_fused()
    def call(inputs, training=False):
        return function(inputs, training)

    for training in (False, True):
        call.get_concrete_function(inputs, training=training)
    root = tf.__internal__.tracking.AutoTrackable()
    root.__call__ = call
    return root


def _signature(root, inputs):
    """`root` for TensorFlow Serving, which knows no lists: `encoder_outputs` become several outputs."""

    def serve(inputs):
        outputs = dict(root.__call__(inputs))
        layers = outputs.pop("encoder_outputs", [])
        return {**outputs, **{f"encoder_outputs_{index}": layer for index, layer in enumerate(layers)}}

    return {"serving_default": tf.function(serve, autograph=False, input_signature=[inputs])}


def _preprocess(preprocessor):
    """The object that is saved as `preprocess`."""
    tokenizer, length = preprocessor.tokenizer, preprocessor.sequence_length
    special_tokens = {name: tokenizer.token_to_id(token) for name, token in SPECIAL_TOKENS.items()}
    special_tokens["vocab_size"] = tokenizer.vocabulary_size

    def call(text, training):
        return _pack(preprocessor, [assembly.tokenize(tokenizer, text, return_offsets=False)], length)

    @tf.function(autograph=False)
    def pack(inputs, seq_length=length):
        segments = [{"ids": ids.merge_dims(1, 2) if ids.shape.rank == 3 else ids} for ids in inputs]
        least = 1 + 2 * len(segments)  # as `BertPreprocessor` wants
        message = f"seq_length is too short: give at least {least}"
        with tf.control_dependencies([tf.debugging.assert_greater_equal(seq_length, least, message)]):
            return _pack(preprocessor, segments, tf.identity(seq_length))

    for rank in (2, 3):
        for number in (1, 2):
            segments = [tf.RaggedTensorSpec([None] * rank, tf.int32)] * number
            pack.get_concrete_function(segments, seq_length=tf.TensorSpec([], tf.int32))
    root = _callable(call, SENTENCES)
    root.tokenize = _callable(lambda text, training: _tokenize(tokenizer, text), SENTENCES)
    root.tokenize.get_special_tokens_dict = tf.__internal__.tracking.AutoTrackable()
    root.tokenize.get_special_tokens_dict.__call__ = tf.function(lambda: special_tokens, input_signature=[])
    root.bert_pack_inputs = tf.__internal__.tracking.AutoTrackable()
    root.bert_pack_inputs.__call__ = pack
    return root


def _tokenize(tokenizer, text):
    """The word pieces of each word, int32 ragged `(batch, words, pieces)`."""
    found = tokenizer(text, return_offsets=True)
    ids, words = found["ids"], found["words"].values
    rows = ids.value_rowids()
    follows = (rows[1:] == rows[:-1]) & (words[1:] == words[:-1])  # the word of the piece before
    begins = tf.concat([tf.ones_like(rows[:1], tf.bool), ~follows], axis=0)
    starts = tf.where(begins)[:, 0]
    pieces = tf.RaggedTensor.from_row_starts(ids.values, starts, validate=False)
    return tf.RaggedTensor.from_value_rowids(
        pieces, tf.gather(rows, starts), nrows=ids.nrows(), validate=False
    )


def _pack(preprocessor, segments, length):
    """What `preprocessor` makes of tokenized segments, padded to `length`."""
    truncation = preprocessor.truncation
    if truncation == "only_second" and len(segments) == 1:  # there is only the first to be cut
        truncation = "only_first"
    lengths = [assembly.length_of(segment["ids"]) for segment in segments]
    kept = STRATEGIES[truncation](lengths, length - 1 - len(segments))
    starts = [assembly.start_of(segment["ids"]) for segment in segments]
    spans = [
        [(start + begin, start + end) for begin, end in spans_of_segment]
        for start, spans_of_segment in zip(starts, kept, strict=True)
    ]
    return assembly.assemble(preprocessor.tokenizer, segments, spans, lambda longest: length)
