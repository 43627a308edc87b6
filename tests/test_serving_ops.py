import pytest
import tensorflow as tf
import tensorflow_text as tf_text
from conftest import VOCABULARY
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import keras_bert_app as kba
from keras_bert_app import serving_ops


def graph(function):
    concrete = tf.function(function).get_concrete_function(tf.TensorSpec([None], tf.string))
    return concrete.graph.as_graph_def()


def test_all_of_preprocessing_can_be_served():
    tokenizer = kba.BertTokenizer(VOCABULARY, special_tokens=["[MASK]"])

    def everything(text):
        found = [tokenizer.detokenize(tokenizer(text)), tokenizer(text, return_offsets=True)]
        for truncation in ("longest_first", "waterfall", "only_first", "only_second", "head_tail"):
            preprocessor = kba.BertPreprocessor(tokenizer, truncation=truncation, pad_to_multiple_of=8)
            length = tf.size(text) + 9
            found.append(preprocessor((text, text), sequence_length=length, return_offsets=True))
            found.append(preprocessor.windows((text, text)))
        return found

    definition = graph(everything)
    assert serving_ops.not_served(definition) == []
    names = serving_ops.operations(definition)
    assert {"FastBertNormalize", "FastWordpieceTokenizeWithOffsets", "UnicodeTranscode"} <= set(names)


def test_all_of_an_exported_model_can_be_served(tmp_path, run_folder):
    path = kba.export(run_folder, tmp_path)
    (graph,) = SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    assert serving_ops.not_served(graph.graph_def) == []
    names = set(serving_ops.operations(graph.graph_def))
    assert names & serving_ops.TEXT_OPERATIONS == {"FastBertNormalize", "FastWordpieceTokenizeWithOffsets"}
    assert "MatMul" in names


@pytest.mark.parametrize(
    ("function", "offender"),
    [
        (lambda t: tf_text.RoundRobinTrimmer(3).trim([tf.strings.split(t)]), "TFText>RoundRobinTrim"),
        (lambda t: tf.cond(tf.size(t) > 1, lambda: tf.raw_ops.SegmentMaxV2(
            data=[1], segment_ids=[0], num_segments=1), lambda: tf.constant([2])), "SegmentMaxV2"),
        (lambda t: tf.py_function(lambda x: x, [t], tf.string), "EagerPyFunc"),
    ],
)  # fmt: skip
def test_offenders_are_named_wherever_they_are(function, offender):
    assert serving_ops.not_served(graph(function)) == [offender]
