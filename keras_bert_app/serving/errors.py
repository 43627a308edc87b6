"""Errors with the codes of TensorFlow, and the HTTP status of each."""

# ToHTTPStatusCode in tensorflow_serving/model_servers/http_server.cc.
HTTP_STATUS = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}


class ServingError(ValueError):
    """What goes wrong with a request.

    Args:
        message: for the client.
        code: name of a status code of TensorFlow.
        http_status: where it is not the one of `HTTP_STATUS`.
    """

    def __init__(self, message, code="INVALID_ARGUMENT", http_status=None):
        super().__init__(message)
        self.message = message
        self.code = code
        self.http_status = http_status or HTTP_STATUS[code]

    def __str__(self):
        return f"{self.code}: {self.message}"


def of_tensorflow(error):
    """The `ServingError` of a `tf.errors.OpError`, which keeps its code."""
    from tensorflow.core.lib.core import error_codes_pb2

    name = error_codes_pb2.Code.Name(error.error_code)
    return ServingError(error.message, name if name in HTTP_STATUS else "UNKNOWN")
