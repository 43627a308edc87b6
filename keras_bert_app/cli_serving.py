"""`keras-bert serve`: SavedModels over TensorFlow Serving's REST contract."""

import logging
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from keras_bert_app.quiet import quiet_import

# The flags of TensorFlow Serving are written with underscores; both are taken.
CONTEXT = {"token_normalize_func": lambda name: name.replace("_", "-")}
SWITCH = re.compile(
    r"--(?P<name>(?:enable|allow|rest[_-]api[_-]enable)[\w-]*)=(?P<value>true|false|1|0)", re.I
)


def with_switches(arguments):
    """Arguments with `--enable_batching=true`, as TensorFlow Serving takes it, as `--enable-batching`."""
    for argument in arguments:
        found = SWITCH.fullmatch(argument)
        if found:
            is_on = found["value"].lower() in ("true", "1")
            yield f"--{'' if is_on else 'no-'}{found['name'].replace('_', '-')}"
        else:
            yield argument


def serve(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER...",
            help="Of a model: what keras-bert export has written to, or any folder with a SavedModel for "
            "each version. Its name is the name of the model.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; 0.0.0.0 is everywhere: mind that anybody may ask then.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen.")] = 8501,
    rest_api_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="The same, as TensorFlow Serving calls it; its --port is for gRPC."
        ),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(help="With --model-base-path: what the model is called.")
    ] = None,
    model_base_path: Annotated[
        Path | None, typer.Option(help="TensorFlow Serving's: the folder of one model.")
    ] = None,
    model_config_file: Annotated[
        str | None,
        typer.Option(help="TensorFlow Serving's: names, base paths, version policies and labels as text."),
    ] = None,
    model_config_file_poll_wait_seconds: Annotated[
        float, typer.Option(help="How often that file is read again; 0 for never.")
    ] = 0,
    file_system_poll_wait_seconds: Annotated[
        float, typer.Option(help="How often to look for new versions; 0 for never.")
    ] = 1,
    rest_api_timeout_in_ms: Annotated[int, typer.Option(help="A request that takes longer gets a 504.")] = (
        30_000
    ),
    rest_api_enable_cors_support: Annotated[bool, typer.Option(help="Send CORS headers.")] = False,
    enable_batching: Annotated[
        bool, typer.Option(help="Run the rows of requests that come together in one go.")
    ] = True,
    batching_parameters_file: Annotated[
        str | None, typer.Option(help="TensorFlow Serving's: max_batch_size and the like as text.")
    ] = None,
    monitoring_config_file: Annotated[
        str | None,
        typer.Option(
            help="TensorFlow Serving's: whether and where there are metrics for Prometheus; without it at "
            "/monitoring/prometheus/metrics."
        ),
    ] = None,
    allow_version_labels_for_unavailable_models: Annotated[
        bool,
        typer.Option(help="Let a label name a version that is not loaded."),
    ] = False,
    max_num_load_retries: Annotated[
        int, typer.Option(help="How often to try again to load a version that is broken.")
    ] = 5,
    load_retry_interval_micros: Annotated[int, typer.Option(help="Microseconds between tries.")] = 60_000_000,
    enable_model_warmup: Annotated[
        bool, typer.Option(help="Run the requests in assets.extra before a version is served.")
    ] = True,
    enable_signature_method_name_check: Annotated[
        bool,
        typer.Option(help="Classify and regress only with signatures that are marked for it."),
    ] = False,
    tensorflow_session_config_file: Annotated[
        str | None,
        typer.Option(help="TensorFlow Serving's: threads, precision and the like, a ConfigProto as text."),
    ] = None,
    max_body_bytes: Annotated[int, typer.Option(help="A larger body gets a 413.")] = 100 * 2**20,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with a token: who asks must send Authorization: Bearer and the token."),
    ] = None,
    access_log: Annotated[bool, typer.Option(help="A line of JSON on standard output for each request.")] = (
        True
    ),
    shutdown_delay_seconds: Annotated[
        float, typer.Option(help="After SIGTERM: from when /readyz says no until no connection is taken.")
    ] = 1,
    shutdown_timeout_seconds: Annotated[
        int, typer.Option(help="After that: how long requests that are under way may take.")
    ] = 30,
):
    """Serve SavedModels over TensorFlow Serving's REST contract, with new versions as they come.

    keras-bert serve saved_models/reviews
    """
    sources = [bool(folders), model_config_file is not None, model_base_path is not None]
    if sum(sources) != 1 or (model_name is not None) != (model_base_path is not None):
        raise ValueError(
            "give the folders of models, or --model-config-file, or --model-name and --model-base-path"
        )
    quiet_import()
    import keras_bert_app.serving.configuration as configuration
    from keras_bert_app.serving.models import ModelConfig
    from keras_bert_app.serving.scheduler import Batching
    from keras_bert_app.serving.server import Options, run

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("keras_bert_app").setLevel(logging.INFO)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    batching = configuration.read_batching(batching_parameters_file) if batching_parameters_file else {}
    options = Options(
        host=host,
        port=port if rest_api_port is None else rest_api_port,
        rest_api_timeout_in_ms=rest_api_timeout_in_ms,
        rest_api_enable_cors_support=rest_api_enable_cors_support,
        model_config_file=model_config_file,
        model_config_file_poll_wait_seconds=model_config_file_poll_wait_seconds,
        file_system_poll_wait_seconds=file_system_poll_wait_seconds,
        allow_version_labels_for_unavailable_models=allow_version_labels_for_unavailable_models,
        max_num_load_retries=max_num_load_retries,
        load_retry_interval_micros=load_retry_interval_micros,
        enable_model_warmup=enable_model_warmup,
        enable_signature_method_name_check=enable_signature_method_name_check,
        batching=Batching(**batching, enabled=enable_batching),
        max_body_bytes=max_body_bytes,
        access_log=access_log,
        shutdown_delay_seconds=shutdown_delay_seconds,
        shutdown_timeout_seconds=shutdown_timeout_seconds,
    )
    if monitoring_config_file:
        options.metrics_path = configuration.read_monitoring(monitoring_config_file)
    if tensorflow_session_config_file:
        options.session_config = configuration.read_session_config(tensorflow_session_config_file)
    if token_file:
        options.token = token_file.read_text(encoding="utf-8").strip()
        if not options.token:
            raise ValueError(f"{token_file} is empty: write a token into it")
    if model_config_file:
        configs = configuration.read_models(model_config_file)
    elif model_base_path:
        configs = [ModelConfig(model_name, model_base_path)]
    else:
        configs = configuration.models_in(folders)
    run(configs, options)
