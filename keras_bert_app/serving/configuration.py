"""The configuration files of TensorFlow Serving, which are protobufs as text."""

import logging
from pathlib import Path

from keras_bert_app.serving.models import ModelConfig

log = logging.getLogger(__name__)

# BatchingParameters in tensorflow_serving/servables/tensorflow/session_bundle_config.proto and
# MonitoringConfig in tensorflow_serving/config/monitoring_config.proto, which tensorflow-serving-api leaves
# out: of each message its fields, the first with number 1. A type in brackets is repeated.
MESSAGES = {
    "Int64Value": {"value": "int64"},
    "StringValue": {"value": "string"},
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": ["int64"],
        "pad_variable_length_inputs": "bool",
    },
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
}


def _message_class(name):
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="keras_bert_app.proto", package="keras_bert_app")
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, fields in MESSAGES.items():
        added = file.message_type.add(name=message)
        for number, (field, kind) in enumerate(fields.items(), 1):
            repeated = isinstance(kind, list)
            kind = kind[0] if repeated else kind
            found = added.field.add(name=field, number=number)
            found.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in MESSAGES:
                found.type, found.type_name = kinds.TYPE_MESSAGE, f".keras_bert_app.{kind}"
            else:
                found.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"keras_bert_app.{name}"))


def _read(path, message):
    """A message from a text file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such message; the error names the file and the line.
    """
    from google.protobuf import text_format

    try:
        return text_format.Parse(Path(path).read_text(encoding="utf-8"), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}: it must be a {message.DESCRIPTOR.name} as text") from None


def read_models(path):
    """`ModelConfig`s from a file with a `ModelServerConfig`.

    Raises:
        OSError, ValueError: it cannot be read, or something in it cannot be served.
    """
    from tensorflow_serving.config import model_server_config_pb2

    found = _read(path, model_server_config_pb2.ModelServerConfig())
    if found.WhichOneof("config") != "model_config_list":
        raise ValueError(f"{path}: there is no model_config_list in it")
    configs = []
    for config in found.model_config_list.config:
        if not config.name or not config.base_path:
            raise ValueError(f"{path}: each config must have a name and a base_path")
        if config.model_platform not in ("", "tensorflow"):
            raise ValueError(
                f"{path}: model_platform {config.model_platform!r} of model {config.name}: only tensorflow "
                "is served"
            )
        kind = config.model_version_policy.WhichOneof("policy_choice") or "latest"
        policy = {
            "latest": ("latest", config.model_version_policy.latest.num_versions or 1),
            "all": ("all",),
            "specific": ("specific", tuple(config.model_version_policy.specific.versions)),
        }[kind]
        labels = dict(config.version_labels)
        configs.append(ModelConfig(config.name, Path(config.base_path), policy, labels))
    names = [config.name for config in configs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path}: there are two models of the name {name}")
    return configs


def read_batching(path):
    """The options of `Batching` that a file with `BatchingParameters` has.

    Raises:
        OSError, ValueError: it cannot be read, or a number is not possible.
    """
    found = _read(path, _message_class("BatchingParameters")())
    names = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    options = {name: getattr(found, name).value for name in names if found.HasField(name)}
    for name, value in options.items():
        least = 0 if name == "batch_timeout_micros" else 1
        if value < least:
            raise ValueError(f"{path}: {name} is {value}: give at least {least}")
    sizes = list(found.allowed_batch_sizes)
    if sizes and (sizes != sorted(set(sizes)) or sizes[-1] != options.get("max_batch_size", sizes[-1])):
        raise ValueError(f"{path}: allowed_batch_sizes must rise, and end with max_batch_size")
    if sizes:
        log.info("%s: allowed_batch_sizes is for accelerators; batches are not padded here", path)
    return options


def read_session_config(path):
    """A `tf.compat.v1.ConfigProto` from a file.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    from tensorflow.core.protobuf import config_pb2

    return _read(path, config_pb2.ConfigProto())


def read_monitoring(path):
    """Where the metrics are, by a file with a `MonitoringConfig`; None if nowhere.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    found = _read(path, _message_class("MonitoringConfig")()).prometheus_config
    if found.path and not found.path.startswith("/"):
        raise ValueError(f"{path}: path is {found.path!r}: it must start with /")
    return (found.path or METRICS_PATH) if found.enable else None


METRICS_PATH = "/monitoring/prometheus/metrics"


def models_in(folders):
    """A `ModelConfig` for each folder on a command line.

    A folder has a folder for each version, and gives the model its name; or is one version itself.

    Raises:
        ValueError: a folder has no SavedModel.
    """
    configs = {}
    for folder in map(Path, folders):
        path = folder.resolve()
        if (path / "saved_model.pb").exists():
            if not (path.name.isascii() and path.name.isdigit()):
                raise ValueError(
                    f"{folder} is a SavedModel, but not a version of a model: put it into a folder of the "
                    f"model under a number, such as {path.name}/1"
                )
            config = ModelConfig(path.parent.name, path.parent, ("specific", (int(path.name),)))
        elif (path / "config.json").exists() and (path / "model.keras").exists():
            raise ValueError(
                f"{folder} is a run folder of a training: keras-bert export {folder} --output "
                f"saved_models/{path.name} writes what can be served"
            )
        elif not path.is_dir():
            raise ValueError(f"{folder} is no folder: give the folder that keras-bert export has written to")
        else:
            config = ModelConfig(path.name, path)
            if not config.versions():
                raise ValueError(
                    f"{folder} has no version of a model: give the folder that keras-bert export has "
                    "written to"
                )
        if config.name in configs:
            raise ValueError(f"two models are called {config.name}: use --model-config-file to name them")
        configs[config.name] = config
    return list(configs.values())
