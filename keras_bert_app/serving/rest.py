"""TensorFlow Serving's REST contract: a method, a path and a body to a status and a body.

Reference: `http_rest_api_handler.cc` and `http_rest_api_util.cc` in `tensorflow_serving/model_servers`.
"""

import asyncio
import dataclasses
import json
import re
import urllib.parse

from keras_bert_app.serving import examples, replies, tensors
from keras_bert_app.serving.errors import ServingError
from keras_bert_app.serving.json_values import parse, show

ASK = re.compile(
    r"(?i)/v1/models/([^/:]+)(?:/versions/([0-9]+)|/labels/([^/:]+))?:(classify|regress|predict)"
)
LOOK = re.compile(r"(?i)/v1/models(?:/([^/:]+))?(?:/versions/([0-9]+)|/labels/([^/:]+))?(?:/(metadata))?")
VERBS = ("predict", "classify", "regress")
LARGE = 2**18  # bytes of a body, or values of a reply, that are not for the thread of the event loop


@dataclasses.dataclass
class Reply:
    """What is sent back.

    Args:
        body: bytes.
        error: what went wrong.
        model, verb: what was asked, as far as it is known.
        media_type: of the body.
    """

    body: bytes = b""
    error: ServingError | None = None
    model: str = ""
    verb: str = ""
    media_type: str = "application/json"

    @property
    def http_status(self):
        """The number of the status."""
        return self.error.http_status if self.error else 200


class Rest:
    """The contract, on some models.

    Args:
        models: `Models`.
        scheduler: `Scheduler`.
        check_method_names: True if classify and regress are only for signatures that are made for them.
    """

    def __init__(self, models, scheduler, check_method_names=False):
        self.models = models
        self.scheduler = scheduler
        self.check_method_names = check_method_names

    async def reply(self, method, target, body):
        """Answers a request.

        Args:
            method: `"GET"`, `"POST"` or another.
            target: the path with its query, as it was sent.
            body: bytes.
        """
        reply = Reply()
        pattern = {"POST": ASK, "GET": LOOK}.get(method)
        found = pattern and pattern.fullmatch(target)
        try:
            if found:
                name, number, label, what = found.groups()
                reply.model = urllib.parse.unquote(name or "", errors="surrogateescape")
                number = number and (number.lstrip("0") or "0")
                if number and (len(number) > 19 or int(number) >= 2**63):
                    reply.error = ServingError(f"Failed to convert version: {number} to numeric.")
                    return reply  # without a body: TensorFlow Serving has none either
                number = None if number is None else int(number)
                label = None if label is None else urllib.parse.unquote(label, errors="surrogateescape")
            if not found or (method == "POST" and what not in VERBS):
                raise ServingError(f"Malformed request: {method} {target}")
            if method == "GET":
                reply.verb = "metadata" if what == "metadata" else "status"
                if not reply.model:
                    raise ServingError("Missing model name in request.")
                look = self._metadata if reply.verb == "metadata" else self._status
                reply.body = look(reply.model, number, label)
            else:
                reply.verb = what
                ask = self._predict if what == "predict" else self._from_examples
                reply.body = await ask(reply, number, label, body)
        except ServingError as error:
            reply.error = error
            reply.body = error_body(error.message)
        return reply

    def _status(self, name, number, label):
        # TensorFlow Serving does not look at the label either.
        rows = [
            {
                "version": str(version),
                "state": state,
                "status": {
                    "error_code": error.code if error else "OK",
                    "error_message": error.message if error else "",
                },
            }
            for version, state, error in self.models.status(name, number)
        ]
        return json.dumps({"model_version_status": rows}, indent=1).encode()

    def _metadata(self, name, number, label):
        from google.protobuf import json_format
        from tensorflow_serving.apis import get_model_metadata_pb2

        number, version = self.models.use(name, number, label)
        try:
            found = get_model_metadata_pb2.SignatureDefMap()
            for signature, definition in version.servable.signature_defs.items():
                found.signature_def[signature].CopyFrom(definition)
        finally:
            self.models.done(version)
        signatures = json_format.MessageToDict(
            found, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
        )
        spec = {"name": name, "signature_name": "", "version": str(number)}
        document = {"model_spec": spec, "metadata": {"signature_def": signatures}}
        return json.dumps(document, indent=1).encode()

    async def _predict(self, reply, number, label, body):
        document = await _aside(len(body), parse, body)
        name = _signature_name(document)
        number, version = self.models.use(reply.model, number, label)
        try:
            signature = version.servable.signature(name)
            if not signature.inputs:
                raise ServingError(f"Failed to get input map for signature: {name or 'DEFAULT'}")
            arrays, write = await _aside(len(body), _read_predict, document, signature.inputs)
            outputs = await self.scheduler.run(signature, arrays)
        finally:
            self.models.done(version)
        if not outputs:
            raise ServingError("Cannot convert empty tensor map to JSON")
        return await _aside(sum(array.size for array in outputs.values()), write, outputs)

    async def _from_examples(self, reply, number, label, body):
        document = await _aside(len(body), parse, body)
        name = _signature_name(document)
        arrays = {"inputs": await _aside(len(body), examples.serialized_examples, document)}
        number, version = self.models.use(reply.model, number, label)
        try:
            try:
                signature = version.servable.signature(name)
            except ServingError:
                name = name or "serving_default"
                raise ServingError(f"No signature was found with the name: {name}") from None
            self._check_examples_signature(reply.verb, version.servable, name, signature)
            outputs = await self.scheduler.run(signature, arrays)
        finally:
            self.models.done(version)
        write = examples.classifications if reply.verb == "classify" else examples.regressions
        return write(outputs, len(arrays["inputs"]))

    def _check_examples_signature(self, verb, servable, name, signature):
        """That a signature takes `tf.Example`s and gives what classify or regress returns."""
        kind = {"classify": "classification", "regress": "regression"}[verb]
        if self.check_method_names:
            expected = f"tensorflow/serving/{verb}"
            method = servable.signature_defs[name or "serving_default"].method_name
            if method != expected:
                raise ServingError(f"Expected {kind} signature method_name to be {expected}. Was: {method}")
        if len(signature.inputs) != 1:
            raise ServingError("Expected one input Tensor.")
        if verb == "regress" and len(signature.outputs) != 1:
            raise ServingError("Expected one output Tensor.")
        if verb == "classify" and len(signature.outputs) not in (1, 2):
            raise ServingError(f"Expected one or two output Tensors, found {len(signature.outputs)}")
        if "inputs" not in signature.inputs:
            raise ServingError(f"No {kind} inputs found in SignatureDef", "FAILED_PRECONDITION")
        if verb == "regress" and "outputs" not in signature.outputs:
            raise ServingError("No regression outputs found in SignatureDef", "FAILED_PRECONDITION")
        if verb == "classify" and not {"classes", "scores"} & signature.outputs.keys():
            raise ServingError(
                'Expected classification signature outputs to contain at least one of "classes" or "scores".',
                "FAILED_PRECONDITION",
            )


async def _aside(size, function, *arguments):
    """Calls a function, of something large on another thread."""
    return function(*arguments) if size < LARGE else await asyncio.to_thread(function, *arguments)


def _signature_name(document):
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise ServingError(
            f"JSON Value: {show(document)} not formatted correctly. 'signature_name' key must be a string "
            "value."
        )
    return name


def _read_predict(document, inputs):
    """The arrays of a predict request and the function that writes the reply."""
    rows = document.get("instances")
    if "instances" in document and "inputs" in document:
        raise ServingError(
            f"JSON Value: {show(document)} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist "
        )
    if "instances" in document:
        if not isinstance(rows, list):
            raise ServingError(f"JSON Value: {show(document)} Excepting 'instances' to be an list/array")
        if not rows:
            raise ServingError(f"JSON Value: {show(document)} No values in 'instances' array")
        return tensors.from_rows(rows, inputs), replies.to_rows
    if "inputs" in document:
        return tensors.from_columns(document["inputs"], inputs), replies.to_columns
    raise ServingError("Missing 'inputs' or 'instances' key")


def error_body(message):
    """The body of an error."""
    text = json.dumps({"error": message}, ensure_ascii=False)
    return text.encode("utf-8", "surrogateescape")
