"""HTTP around the REST contract: health, metrics, who may ask, how long, how much, and the log."""

import asyncio
import hmac
import logging
import re
import time

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from keras_bert_app.serving.access_log import AccessLog
from keras_bert_app.serving.bodies import read_body
from keras_bert_app.serving.errors import ServingError
from keras_bert_app.serving.metrics import Metrics
from keras_bert_app.serving.rest import VERBS, Reply, Rest, error_body

log = logging.getLogger(__name__)

NOT_FOUND = b"<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


class Application:
    """Answers requests.

    Args:
        models: `Models`.
        scheduler: `Scheduler`.
        options: `server.Options`.
    """

    def __init__(self, models, scheduler, options):
        self.models = models
        self.options = options
        self.timeout = options.rest_api_timeout_in_ms / 1000
        self.rest = Rest(models, scheduler, options.enable_signature_method_name_check)
        self.metrics = Metrics(lambda: models.configs, lambda: scheduler.pending)
        scheduler.observe = self.metrics.batch_size.observe
        self.access_log = AccessLog() if options.access_log else None
        self.draining = False

    def close(self):
        """Writes what is left of the log."""
        if self.access_log:
            self.access_log.close()

    def starlette(self):
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
            return self._response(refused())
        return Response(self.metrics.page(), media_type="text/plain")

    def _is_allowed(self, request):
        token = self.options.token
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return token is None or (
            scheme.lower() == "bearer" and hmac.compare_digest(given.encode("latin-1"), token.encode())
        )

    async def _contract(self, request):
        """Answers everything else."""
        start = time.monotonic()
        query = request.scope["query_string"]
        target = (request.scope["raw_path"] + (b"?" + query if query else b"")).decode("latin-1")
        size = [0]
        try:
            async with asyncio.timeout(self.timeout):
                reply = await self._reply(request, target, size)
        except TimeoutError:
            reply = failed("Timed out waiting for notification", "DEADLINE_EXCEEDED")
            reply.model, reply.verb = _asked(target)
        except ClientDisconnect:
            reply = failed("the client has gone", "CANCELLED")
        except ServingError as error:
            reply = Reply(error_body(error.message), error)
        except Exception as error:  # a mistake of the server
            log.exception("%s %s", request.method, target[:1000])
            reply = failed(f"{type(error).__name__}: {error}", "INTERNAL")
            reply.model, reply.verb = _asked(target)
        seconds = time.monotonic() - start
        if reply.verb in VERBS:
            self.metrics.count(reply.model, reply.verb, reply.error.code if reply.error else "OK", seconds)
        if self.access_log:
            self.access_log.write(request, target, reply, size[0], seconds)
        return self._response(reply)

    async def _reply(self, request, target, size):
        """The reply to a request; `size[0]` becomes the bytes of its body."""
        if not re.match(r"(?i)/v1/", target):
            return Reply(NOT_FOUND, ServingError("no such page", "NOT_FOUND"), media_type="text/html")
        if request.method == "OPTIONS":
            allowed = re.match("https?://", request.headers.get("origin", ""))
            error = None if allowed else ServingError("no Origin", "FAILED_PRECONDITION")
            return Reply(b"", error, media_type="text/html")
        if not self._is_allowed(request):
            return refused()
        body = await read_body(request, self.options.max_body_bytes)
        size[0] = len(body)
        return await self.rest.reply(request.method, target, body)

    def _response(self, reply):
        headers = {}
        if self.options.rest_api_enable_cors_support:
            headers |= CORS
            if self.options.token is not None:
                headers["Access-Control-Allow-Headers"] += ", Authorization"
        if self.draining:
            headers["Connection"] = "close"
        if reply.http_status == 503:
            headers["Retry-After"] = "1"
        if reply.http_status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return Response(reply.body, reply.http_status, headers, media_type=reply.media_type)


class _Endpoint:
    """An ASGI application of a function, for every method."""

    def __init__(self, function):
        self.function = function

    async def __call__(self, scope, receive, send):
        response = await self.function(Request(scope, receive))
        await response(scope, receive, send)


def failed(message, code):
    """The reply that says what went wrong."""
    return Reply(error_body(message), ServingError(message, code))


def refused():
    """The reply to who has not the token."""
    return failed("send the header Authorization: Bearer with the token", "UNAUTHENTICATED")


def _asked(target):
    """The model and the verb in a path."""
    found = re.match(r"(?i)/v1/models/([^/:]+).*:(\w+)$", target)
    return found.groups() if found else ("", "")
