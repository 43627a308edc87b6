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
    "bert_encoder": "encoder",
    "custom_objects": "registry",
    "export": "exporting",
    "finetune": "training",
    "from_pretrained": "handles",
    "load": "task_model",
    "load_imdb": "data.datasets",
    "load_sample": "data.datasets",
    "read_labelled": "data.readers",
    "text_classifier": "tasks.text_classification",
    "train_vocabulary": "vocabulary",
}

__all__ = ["__version__", *_NAMES]


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
