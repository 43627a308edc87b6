"""Models with the same weights in another precision."""

import keras

from keras_bert_app.registry import custom_objects


def in_float32(model):
    """A functional model that computes in float32, which the exporters to other runtimes need."""
    if all(layer.compute_dtype == "float32" for layer in model.layers if layer.weights):
        return model
    return _with_policies(model, lambda name: "float32")


def with_narrow_weights(model):
    """A functional model that keeps its weights in the precision it computes in, for inference.

    One in `mixed_bfloat16` narrows its weights each time that it is called, to the same numbers. It is
    returned as it is if its configuration does not make it anew, as with LoRA or layers of others.
    """
    if all(layer.compute_dtype == layer.variable_dtype for layer in model.layers if layer.weights):
        return model
    try:
        return _with_policies(model, lambda name: name.removeprefix("mixed_"))
    except (NotImplementedError, TypeError, ValueError):
        return model


def _with_policies(model, change):
    """A model with the same weights and other names of dtype policies."""
    found = keras.Model.from_config(_changed(model.get_config(), change), custom_objects=custom_objects())
    for new, old in zip(found.weights, model.weights, strict=True):
        new.assign(old)
    return found


def _changed(config, change):
    """The config of a model with other names of dtype policies."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": change(config["config"]["name"])}}
        return {key: _changed(value, change) for key, value in config.items()}
    return [_changed(item, change) for item in config] if isinstance(config, list | tuple) else config
