"""BERT for Keras 3 and TensorFlow: from raw text to a served model.

    import keras_bert_app as kba

Each name is loaded when it is first used, so that the import itself is quick.
"""

import importlib

__version__ = "0.1.0"

_NAMES = {
    "BertConfig": "config",
    "BertPreprocessor": "preprocessing.packing",
    "BertTokenizer": "preprocessing.tokenizer",
    "FillMask": "tasks.fill_mask",
    "MaskedLMMasker": "preprocessing.masking",
    "MultipleChoice": "tasks.multiple_choice",
    "NextSentence": "tasks.next_sentence",
    "PythonPreprocessor": "python_preprocessor",
    "QuestionAnswering": "tasks.question_answering",
    "SentenceSimilarity": "tasks.sentence_similarity",
    "TextClassification": "tasks.text_classification",
    "TokenClassification": "tasks.token_classification",
    "bert_encoder": "encoder",
    "convert": "conversion",
    "custom_objects": "registry",
    "download": "downloads",
    "embed": "embedding",
    "embed_words": "embedding",
    "enable_lora": "adaptation",
    "export": "exporting",
    "finetune": "training",
    "freeze": "adaptation",
    "from_pretrained": "handles",
    "hub_layer": "hub",
    "inspect": "inspecting",
    "load": "loading",
    "load_checkpoint": "handles",
    "load_imdb": "data.datasets",
    "load_sample": "data.datasets",
    "merge_lora": "adaptation",
    "open_checkpoint": "handles",
    "prepare_examples": "preparation",
    "pretrain": "pretraining",
    "pretrainer": "heads",
    "read_labelled": "data.readers",
    "resize_vocabulary": "resizing",
    "save_checkpoint": "checkpoints.saving",
    "search": "embedding",
    "sentence_encoder": "heads",
    "span_classifier": "heads",
    "text_classifier": "heads",
    "token_classifier": "heads",
    "train_vocabulary": "vocabulary",
}

__all__ = ["__version__", "serving", *_NAMES]


def __getattr__(name):
    if name == "serving":
        return importlib.import_module(f"{__name__}.serving")
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
