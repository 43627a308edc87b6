"""Models with the same weights in another precision."""

import keras

from keras_bert_app.registry import custom_objects


def in_float32(model):
    """A functional model that computes in float32, which the exporters to other runtimes need."""
    return _with_policies(model, lambda name: "float32")


def in_stored(model):
    """A functional model that keeps its weights in the precision it computes in, for inference.

    One in `mixed_bfloat16` narrows its weights each time that it is called, to the same numbers.
    """
    return _with_policies(model, lambda name: name.removeprefix("mixed_"))


def _with_policies(model, change):
    """A model with the same weights and another dtype policy for each layer, or itself if none is another."""
    before = model.get_config()
    config = _changed(before, change)
    if config == before:
        return model
    found = keras.Model.from_config(config, custom_objects=custom_objects())
    found.set_weights(model.get_weights())
    return found


def _changed(config, change):
    """The config of a model with other names of dtype policies."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": change(config["config"]["name"])}}
        return {key: _changed(value, change) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_changed(item, change) for item in config)
    return config
