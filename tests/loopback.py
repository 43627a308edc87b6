"""An HTTP server on this machine that plays the hubs."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Loopback:
    """A running server: `routes[path]` is a function of the request handler, `asked` what was asked for."""

    def __init__(self):
        self.routes, self.asked = {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append((self.command, self.path, self.headers.get("Range")))
                route = outer.routes.get(self.path)
                with contextlib.suppress(ConnectionError):
                    route(self) if route else answer(self, b"not here", 404)

            do_HEAD = do_POST = do_GET  # noqa: N815

            def log_message(self, *words):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def answer(handler, data=b"", status=200, length=None, **headers):
    """Sends an answer; a `length` larger than that of `data` cuts the connection."""
    handler.send_response(status)
    headers.setdefault("Content_Type", "application/octet-stream")
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data) if length is None else length))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(data)
    if length is not None:
        handler.close_connection = True


def giving(data, status=200, **headers):
    """A route that always gives the same answer."""
    return lambda handler: answer(handler, data, status, **headers)


def one_after_the_other(*routes):
    """A route that answers each time as the next of `routes`; in the end as the last, again and again."""
    left = list(routes)
    return lambda handler: (left.pop(0) if len(left) > 1 else left[0])(handler)


def in_parts(data, etag, cut=None):
    """A route that understands ranges; `cut` is a list of how many bytes to send before each break."""
    cuts = list(cut or ())

    def route(handler):
        start, headers = 0, {"ETag": etag} if etag else {}
        wanted = handler.headers.get("Range")
        if wanted and handler.headers.get("If-Range") == etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                return answer(handler, b"", 416, Content_Range=f"bytes */{len(data)}")
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        status = 206 if start else 200
        if cuts:
            return answer(handler, rest[: cuts.pop(0)], status, len(rest), **headers)
        return answer(handler, rest, status, **headers)

    return route
