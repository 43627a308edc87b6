"""A line of JSON on standard output for each request, from a thread of its own."""

import json
import logging
import logging.handlers
import queue
import sys
import time

WAITING = 10_000  # lines; more are dropped, a reply waits for none of them


class AccessLog:
    """Writes lines until it is closed."""

    def __init__(self):
        self.lines = queue.Queue(WAITING)
        writer = logging.StreamHandler(sys.stdout)
        writer.handleError = lambda record: None  # whoever read the lines has gone
        self.listener = logging.handlers.QueueListener(self.lines, writer)
        self.listener.start()

    def write(self, request, target, reply, size, seconds):
        """Adds a line.

        Args:
            request: `starlette.requests.Request`.
            target: its path, with its query.
            reply: `rest.Reply`.
            size: bytes of its body.
            seconds: that it took.
        """
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
        if not self.lines.full():
            self.lines.put_nowait(logging.makeLogRecord({"msg": json.dumps(line)}))

    def close(self):
        """Writes what is left."""
        self.listener.stop()
