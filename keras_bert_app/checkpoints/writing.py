"""What every writer of checkpoints needs: the values of a model's variables, by the names of a format."""

from keras_bert_app.adaptation import lora_layers, merged_kernel, to_numpy
from keras_bert_app.checkpoints.checkpoint import to_stored
from keras_bert_app.checkpoints.names import HEADS, KERAS_BERT_APP
from keras_bert_app.encoder import encoder_layers

NO_WEIGHTS = ("seed_generator_state", "lora_kernel_a", "lora_kernel_b")  # LoRA is in its kernel


def heads_of(model):
    """The heads of a model: tuple of the keys of `names.HEADS`."""
    paths = {variable.path for variable in model.weights}
    return tuple(head for head, (first, *_) in HEADS.items() if first in paths)


def check_variables(model, config):
    """Raises ValueError, naming it, if a model has a variable that no format has a name for."""
    known = KERAS_BERT_APP.names(config.num_hidden_layers)
    for variable in model.weights:
        if variable.path not in known and not variable.path.endswith(NO_WEIGHTS):
            raise ValueError(
                f"the model has the variable {variable.path}, for which no format has a place: give the "
                "encoder, or a model of pretrainer, text_classifier, token_classifier or span_classifier"
            )


def stored(model, table, config, skip=()):
    """The variables of a model as a format has them, one at a time.

    Args:
        model: an encoder, or a model built on one.
        table: `names.Table` of the format.
        config: `BertConfig` of the model.
        skip: heads that are left out.

    Returns:
        Iterator of `(name, array)`; LoRA is merged.
    """
    names = table.names(config.num_hidden_layers)
    left_out = {path for head in skip for path in HEADS[head]}
    with_lora = {f"{dense.path}/kernel": dense for dense in lora_layers(encoder_layers(model))}
    for variable in model.weights:
        if variable.path in left_out or variable.path.endswith(NO_WEIGHTS):
            continue
        (name, *_), layout = names[variable.path]
        dense = with_lora.get(variable.path)
        value = to_numpy(variable) if dense is None else merged_kernel(dense)
        yield name, to_stored(value, layout, config.num_attention_heads)


def num_classes_of(model):
    """The number of labels of a text or token classifier, or None."""
    paths = ("classifier/bias", "token_classifier/bias")
    return next((variable.shape[0] for variable in model.weights if variable.path in paths), None)
