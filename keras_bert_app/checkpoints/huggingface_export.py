"""Write a Hugging Face folder, as Transformers does."""

from keras_bert_app import files
from keras_bert_app.checkpoints import names, tokenizers, writing

HEADS = tuple(names.HEADS)  # it has a place for all of them
ARCHITECTURES = {
    (): "BertModel",
    ("masked_lm", "next_sentence"): "BertForPreTraining",
    ("masked_lm",): "BertForMaskedLM",
    ("next_sentence",): "BertForNextSentencePrediction",
    ("text_classifier",): "BertForSequenceClassification",
    ("token_classifier",): "BertForTokenClassification",
    ("span_classifier",): "BertForQuestionAnswering",
}
OUTSIDE = ("cls.", "classifier.", "qa_outputs.")  # the names of heads, which have no prefix


def write(model, config, folder, preprocessor=None, labels=None, dtype="float32"):
    """Writes `config.json`, `model.safetensors` and the tokenizer's files to an existing folder.

    Args:
        model: an encoder, or a model with a head.
        config: `BertConfig` of the model.
        folder: where to.
        preprocessor: `BertPreprocessor`, or None to write no tokenizer.
        labels: the labels of a classifier.
        dtype: of the weights in the file.
    """
    from safetensors.numpy import save_file

    heads = writing.heads_of(model)
    prefix = "bert." if heads else ""
    tensors = {}
    for name, value in writing.stored(model, names.HUGGINGFACE, config):
        outside = name.startswith(OUTSIDE)
        tensors[("" if outside else prefix) + name] = value.astype(dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    values = {
        "architectures": [ARCHITECTURES[heads]],
        **config.to_dict(),
        "dtype": dtype,
        "tie_word_embeddings": True,
    }
    if heads in (("text_classifier",), ("token_classifier",)):
        count = writing.num_classes_of(model)
        labels = [str(label) for label in labels] if labels else [f"LABEL_{i}" for i in range(count)]
        values["id2label"] = {str(i): label for i, label in enumerate(labels)}
        values["label2id"] = {label: i for i, label in enumerate(labels)}
    if preprocessor is not None:
        values["pad_token_id"] = preprocessor.tokenizer.token_to_id("[PAD]")
        tokenizers.write_huggingface(preprocessor.tokenizer, config.max_position_embeddings, folder)
    files.write_json(folder / "config.json", values)
    # safetensors lets only the owner read its file.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
