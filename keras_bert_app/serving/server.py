"""The server: HTTP around the REST contract, health, metrics, and an end without loss."""

import asyncio
import contextlib
import dataclasses
import hmac
import json
import logging
import re
import signal
import socket
import sys
import threading
import time
import zlib
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from keras_bert_app.serving import configuration
from keras_bert_app.serving.errors import ServingError, phrase
from keras_bert_app.serving.metrics import Metrics
from keras_bert_app.serving.models import Models
from keras_bert_app.serving.rest import Reply, Rest, error_body
from keras_bert_app.serving.scheduler import Batching, Scheduler, num_cores
from keras_bert_app.serving.servable import Servable

log = logging.getLogger(__name__)

JSON = "application/json"
UNPACKED = 100 * 2**20  # bytes of an unpacked body: kMaxUncompressedBytes of TensorFlow Serving
NOT_FOUND = "<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


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
        self.timeout = options.rest_api_timeout_in_ms / 1000
        session_config = options.session_config or default_session_config(options.batching)
        self.models = Models(
            lambda folder: Servable(folder, self.timeout, options.enable_model_warmup, session_config),
            options.max_num_load_retries,
            options.load_retry_interval_micros / 1e6,
            options.allow_version_labels_for_unavailable_models,
        )
        self.models.configure(configs)
        path = options.model_config_file
        self.config_text = Path(path).read_bytes() if path else None
        self.scheduler = Scheduler(options.batching)
        self.rest = Rest(self.models, self.scheduler, options.enable_signature_method_name_check)
        self.metrics = Metrics(lambda: self.models.configs, lambda: self.scheduler.pending)
        self.scheduler.observe = self.metrics.batch_size.observe
        self.draining = False
        self.ended = threading.Event()

    def app(self):
        """The ASGI application."""
        routes = [Route("/healthz", self._health), Route("/readyz", self._ready)]
        if self.options.metrics_path:
            routes.append(Route(self.options.metrics_path, self._metrics))
        return Starlette(routes=[*routes, Route("/{path:path}", _Endpoint(self._contract))])

    async def _health(self, request):
        return PlainTextResponse("ok\n")

    async def _ready(self, request):
        if self.draining:
            return PlainTextResponse("the server is about to end\n", 503)
        if not self.models.ready:
            return PlainTextResponse("not every model has a version that is loaded\n", 503)
        return PlainTextResponse("ok\n")

    async def _metrics(self, request):
        if not self._is_allowed(request):
            return self._response(_refused(), request)
        return Response(self.metrics.page(), media_type="text/plain")

    def _is_allowed(self, request):
        given = request.headers.get("authorization", "").encode("latin-1")
        token = self.options.token
        return token is None or hmac.compare_digest(given, f"Bearer {token}".encode())

    async def _contract(self, request):
        """Answers everything else."""
        start = time.monotonic()
        query = request.scope["query_string"]
        target = (request.scope["raw_path"] + (b"?" + query if query else b"")).decode("latin-1")
        size = 0
        try:
            if not re.match(r"(?i)/v1/", target):
                return Response(NOT_FOUND, 404, media_type="text/html")
            if not self._is_allowed(request):
                reply = _refused()
            elif request.method == "OPTIONS":
                allowed = re.match("https?://", request.headers.get("origin", ""))
                error = None if allowed else ServingError("no Origin", "FAILED_PRECONDITION")
                return Response(b"", 400 if error else 200, self._cors(), media_type="text/html")
            else:
                try:
                    async with asyncio.timeout(self.timeout):
                        body = await self._body(request)
                        size = len(body)
                        reply = await self.rest.reply(request.method, target, body)
                except ServingError as error:
                    reply = Reply(error_body(error.message), error)
        except TimeoutError:
            error = ServingError("Timed out waiting for notification", "DEADLINE_EXCEEDED")
            reply = Reply(error_body(error.message), error)
            reply.model, reply.verb = _asked(target)
        seconds = time.monotonic() - start
        code = reply.error.code if reply.error else "OK"
        if reply.verb in ("predict", "classify", "regress"):
            self.metrics.count(reply.model, reply.verb, code, seconds)
        response = self._response(reply, request)
        if self.options.access_log:
            self._log(request, target, reply, size, seconds)
        return response

    def _response(self, reply, request):
        headers = self._cors()
        if self.draining:
            headers["Connection"] = "close"
        if reply.http_status == 503:
            headers["Retry-After"] = "1"
        if reply.http_status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return Response(reply.body, reply.http_status, headers, media_type=JSON)

    def _cors(self):
        return dict(CORS) if self.options.rest_api_enable_cors_support else {}

    async def _body(self, request):
        """The body of a request, unpacked."""
        limit = self.options.max_body_bytes
        parts, size = [], 0
        too_large = ServingError(
            f"the body has more than {limit} bytes: send fewer instances, or start the server with a "
            "larger --max-body-bytes",
            "OUT_OF_RANGE",
            413,
        )
        length = request.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > limit:
            raise too_large
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > limit:
                raise too_large
        body = b"".join(parts)
        return _unpacked(body) if "gzip" in request.headers.get("content-encoding", "") else body

    def _log(self, request, target, reply, size, seconds):
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "client": request.client.host if request.client else "",
            "method": request.method,
            "path": target[:1000],
            "status": reply.http_status,
            "milliseconds": round(1000 * seconds, 2),
            "request_bytes": size,
            "reply_bytes": len(reply.body),
        }
        if reply.error:
            line["error"] = reply.error.message[:1000]
        print(json.dumps(line), file=sys.stdout, flush=True)

    def load(self):
        """Loads the models.

        Raises:
            ValueError: one has no version that can be loaded.
        """
        self.models.look()
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
                self.app(), http="httptools", ws="none", lifespan="off",
                access_log=False, log_level="warning", server_header=False, timeout_keep_alive=75,
                timeout_graceful_shutdown=options.shutdown_timeout_seconds,
            )
        )  # fmt: skip
        loop = asyncio.get_running_loop()

        def end():
            if self.draining:  # a second time: at once
                server.force_exit = True
            self.draining = True
            loop.call_later(options.shutdown_delay_seconds, setattr, server, "should_exit", True)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        watching = threading.Thread(target=self.watch, daemon=True)
        watching.start()
        try:
            await server.serve([listener])
        finally:
            self.ended.set()
            self.scheduler.close()


class _Uvicorn(uvicorn.Server):
    """Leaves signals to `Server.serve`."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


class _Endpoint:
    """An ASGI application of a function, for every method."""

    def __init__(self, function):
        self.function = function

    async def __call__(self, scope, receive, send):
        try:
            response = await self.function(Request(scope, receive))
        except ClientDisconnect:
            return
        await response(scope, receive, send)


def _refused():
    error = ServingError(
        f"{phrase(401)}: send the header Authorization: Bearer with the token", "UNAUTHENTICATED"
    )
    return Reply(error_body(error.message), error)


def _asked(target):
    """The model and the verb in a path."""
    found = re.match(r"(?i)/v1/models/([^/:]+).*:(\w+)$", target)
    return found.groups() if found else ("", "")


def _unpacked(body):
    """A body without gzip; empty if it is broken or too large, as in TensorFlow Serving."""
    try:
        unpacker = zlib.decompressobj(wbits=31)
        found = unpacker.decompress(body, UNPACKED)
        return found if unpacker.eof else b""
    except zlib.error:
        return b""


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
