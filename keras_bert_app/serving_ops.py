"""Which operations a graph holds that TensorFlow Serving does not link."""

# What TensorFlow Serving links of tensorflow-text since 2.12, which is tensorflow-text 2.12.1:
# SUPPORTED_TENSORFLOW_OPS in tensorflow_serving/model_servers/BUILD and the version in workspace.bzl.
# RoundRobinTrim, RoundRobinGenerateMasks and Utf8Binarize came with 2.20.
TEXT_OPERATIONS = {
    "CaseFoldUTF8", "ConstrainedSequence", "FastBertNormalize", "FastWordpieceTokenizeWithOffsets",
    "FindSourceOffsets", "MaxSpanningTree", "NormalizeUTF8", "NormalizeUTF8WithOffsetsMap",
    "PhraseTokenize", "RegexSplitWithOffsets", "RougeL", "SentenceFragments", "SentenceFragmentsV2",
    "SentencepieceDetokenizeOp", "SentencepieceIdToStringOp", "SentencepieceOp",
    "SentencepieceStringToIdOp", "SentencepieceTokenizeOp", "SentencepieceTokenizeWithOffsetsOp",
    "SentencepieceVocabSizeOp", "SplitMergeTokenizeWithOffsets", "TFText>BoiseTagsToOffsets",
    "TFText>ByteSplitByOffsets", "TFText>ByteSplitWithOffsets", "TFText>FastSentencepieceDetokenize",
    "TFText>FastSentencepieceTokenize", "TFText>FastWordpieceDetokenize", "TFText>NgramsStringJoin",
    "TFText>OffsetsToBoiseTags", "TFText>PhraseDetokenize", "TFText>WhitespaceTokenizeWithOffsetsV2",
    "TokenizerFromLogits", "UnicodeScriptTokenizeWithOffsets", "WhitespaceTokenizeWithOffsets",
    "WordpieceTokenizeWithOffsets",
}  # fmt: skip

# TensorFlow's own that no server can run, because they call Python.
PYTHON = {"EagerPyFunc", "PyFunc", "PyFuncStateless", "NumpyFunction"}

# TensorFlow's own that came after 2.12, but for those of TPUs.
NEWER = {
    "CheckPinned", "CollectiveAllToAllV2", "Conv", "DatasetFingerprint", "DebugIdentityV3", "DecodeJxl",
    "DecodeWebP", "EmptyTensorMap", "FFTND", "FileSystemSetConfiguration", "GlobalIterId",
    "GlobalShuffleDataset", "IFFTND", "IRFFTND", "IndexFlatMapDataset", "IteratorGetModelProto",
    "KMC2ChainInitialization", "KmeansPlusPlusInitialization", "ListSnapshotChunksDataset",
    "NearestNeighbors", "RFFTND", "RaggedFillEmptyRows", "RaggedFillEmptyRowsGrad", "SegmentMaxV2",
    "SegmentMinV2", "SnapshotChunkDataset", "SparseSegmentMeanGradV2", "SparseSegmentSqrtNGradV2",
    "SparseSegmentSumGradV2", "TFRecordDatasetV2", "TensorMapErase", "TensorMapHasKey",
    "TensorMapInsert", "TensorMapLookup", "TensorMapSize", "TensorMapStackKeys", "WeightedFlatMapDataset",
}  # fmt: skip


def operations(graph_def):
    """The names of all operations in a `GraphDef`, its functions included, sorted."""
    nodes = [
        *graph_def.node,
        *(node for function in graph_def.library.function for node in function.node_def),
    ]
    functions = {function.signature.name for function in graph_def.library.function}
    return sorted({node.op for node in nodes} - functions)


def not_served(graph_def):
    """The operations in a `GraphDef` that TensorFlow Serving 2.12 and newer cannot run.

    Args:
        graph_def: of a graph, such as `concrete_function.graph.as_graph_def()`, or of a SavedModel.

    Returns:
        list of names, empty if all can be run.
    """
    import tensorflow as tf

    return [
        name
        for name in operations(graph_def)
        if name not in TEXT_OPERATIONS and (name in NEWER | PYTHON or not hasattr(tf.raw_ops, name))
    ]
