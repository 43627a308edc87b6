"""The server: from its start, over new versions and configurations, to an end without loss."""

import asyncio
import contextlib
import dataclasses
import logging
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import uvicorn

from keras_bert_app.serving import configuration
from keras_bert_app.serving.application import Application
from keras_bert_app.serving.bodies import UNPACKED
from keras_bert_app.serving.models import Models
from keras_bert_app.serving.scheduler import Batching, Scheduler, num_cores
from keras_bert_app.serving.servable import Servable

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Options:
    """How a server runs; see `keras-bert serve --help`."""

    host: str = "127.0.0.1"
    port: int = 8501
    rest_api_timeout_in_ms: int = 30_000
    rest_api_enable_cors_support: bool = False
    model_config_file: str | None = None
    model_config_file_poll_wait_seconds: float = 0
    file_system_poll_wait_seconds: float = 1
    allow_version_labels_for_unavailable_models: bool = False
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    enable_model_warmup: bool = True
    enable_signature_method_name_check: bool = False
    session_config: object = None
    metrics_path: str | None = configuration.METRICS_PATH
    batching: Batching = dataclasses.field(default_factory=Batching)
    max_body_bytes: int = UNPACKED
    token: str | None = None
    access_log: bool = True
    shutdown_delay_seconds: float = 1
    shutdown_timeout_seconds: int = 30


class Server:
    """Serves models until it is told to end.

    Args:
        configs: list of `ModelConfig`.
        options: `Options`.
    """

    def __init__(self, configs, options):
        self.options = options
        timeout = options.rest_api_timeout_in_ms / 1000
        session_config = options.session_config or default_session_config(options.batching)
        self.models = Models(
            lambda folder: Servable(folder, timeout, options.enable_model_warmup, session_config),
            options.max_num_load_retries,
            options.load_retry_interval_micros / 1e6,
            options.allow_version_labels_for_unavailable_models,
        )
        self.models.configure(configs)
        path = options.model_config_file
        self.config_text = Path(path).read_bytes() if path else None
        self.scheduler = Scheduler(options.batching)
        self.application = Application(self.models, self.scheduler, options)
        self.ended = threading.Event()

    def load(self):
        """Loads the models.

        Raises:
            ValueError: one has no version that can be loaded.
        """
        self.models.look()
        self.models.fall_back()
        for name, config in self.models.configs.items():
            versions = self.models.versions.get(name, {})
            if not any(version.state == "AVAILABLE" for version in versions.values()):
                reasons = [version.error.message for version in versions.values() if version.error]
                reasons = "; ".join(reasons) or f"there is no version in {config.base_path}"
                raise ValueError(f"model {name} cannot be served: {reasons}")

    def watch(self):
        """Looks for new versions, and for a new configuration, until the end."""
        options = self.options
        path = options.model_config_file
        waits = {"folders": options.file_system_poll_wait_seconds}
        if path:
            waits["configuration"] = options.model_config_file_poll_wait_seconds
        due = {what: time.monotonic() + wait for what, wait in waits.items() if wait > 0}
        known = self.config_text
        while due and not self.ended.wait(max(min(due.values()) - time.monotonic(), 0)):
            try:
                now = time.monotonic()
                if due.get("configuration", now + 1) <= now:
                    due["configuration"] = now + waits["configuration"]
                    found = Path(path).read_bytes()
                    if found != known:
                        known = found
                        self.models.configure(configuration.read_models(path))
                        self.models.look()
                if due.get("folders", now + 1) <= now:
                    due["folders"] = now + waits["folders"]
                    self.models.look()
            except Exception as error:  # whatever it is, what is served goes on
                log.error("%s: %s", type(error).__name__, error)

    async def serve(self, listener):
        """Serves on a socket until SIGTERM or SIGINT; then answers what it has accepted, and returns."""
        options = self.options
        server = _Uvicorn(
            uvicorn.Config(
                self.application.starlette(), http="httptools", ws="none", lifespan="off",
                access_log=False, log_level="warning", server_header=False, timeout_keep_alive=75,
                timeout_graceful_shutdown=options.shutdown_timeout_seconds,
            )
        )  # fmt: skip
        loop = asyncio.get_running_loop()

        def end():
            if self.application.draining:  # a second time: at once
                server.should_exit = server.force_exit = True
            self.application.draining = True
            loop.call_later(options.shutdown_delay_seconds, setattr, server, "should_exit", True)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        watching = threading.Thread(target=self.watch, daemon=True)
        watching.start()
        try:
            await server.serve([listener])
        finally:
            self.ended.set()
            await asyncio.to_thread(self.scheduler.close)
            self.application.close()


class _Uvicorn(uvicorn.Server):
    """Leaves signals to `Server.serve`."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


def run(configs, options):
    """Loads the models and serves them, see `Server`.

    Raises:
        ValueError: a model cannot be loaded.
        OSError: the port is not free.
    """
    import tensorflow as tf

    tf.get_logger().setLevel(logging.ERROR)  # it advises to load models as TensorFlow Serving does not
    with bind(options.host, options.port) as listener:
        server = Server(configs, options)
        server.load()
        print(f"serving on http://{options.host}:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
        asyncio.run(server.serve(listener))


def default_session_config(batching):
    """A `tf.compat.v1.ConfigProto` by which the runs that are made at the same time share the cores."""
    from tensorflow.core.protobuf import config_pb2

    return config_pb2.ConfigProto(
        intra_op_parallelism_threads=max(num_cores() // batching.num_batch_threads, 1),
        use_per_session_threads=True,
    )


def bind(host, port):
    """A socket that has an address, and does not listen yet.

    Raises:
        OSError: the address is not free, or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio turns off Nagle's algorithm, which delays replies by 40 ms.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except OSError as error:
        found.close()
        reason = error.strerror or error
        raise OSError(f"cannot listen on {host}:{port}: {reason}. Choose another --host or --port") from error
    return found
