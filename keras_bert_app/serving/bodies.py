"""The body of a request: within its limit, and unpacked."""

import asyncio
import zlib

from keras_bert_app.serving.errors import ServingError

# Bytes of an unpacked body: kMaxUncompressedBytes in tensorflow_serving/util/net_http.
UNPACKED = 100 * 2**20


async def read_body(request, limit):
    """The bytes of a request's body.

    Args:
        request: `starlette.requests.Request`.
        limit: bytes, packed and unpacked.

    Raises:
        ServingError: there are more; HTTP status 413.
    """
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > limit:
            raise _too_large(limit)
    body = b"".join(parts)
    if "gzip" not in request.headers.get("content-encoding", ""):
        return body
    return await asyncio.to_thread(_unpacked, body, limit)


def _too_large(limit):
    return ServingError(
        f"the body has more than {limit} bytes: send fewer instances, or start the server with a larger "
        "--max-body-bytes",
        "OUT_OF_RANGE",
        413,
    )


def _unpacked(body, limit):
    """A body without gzip; empty if it is broken or larger than `UNPACKED`, as in TensorFlow Serving."""
    try:
        unpacker = zlib.decompressobj(wbits=31)
        found = unpacker.decompress(body, min(limit + 1, UNPACKED))
    except zlib.error:
        return b""
    if len(found) > limit:
        raise _too_large(limit)
    return found if unpacker.eof else b""
