"""A client of the REST contract, for `keras-bert serve` and TensorFlow Serving alike."""

import json
import re

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ReadTimeoutError
from urllib3.util import Retry

from keras_bert_app.serving.errors import HTTP_STATUS, ServingError

# In which order the texts of a row stand that is given as a tuple.
ORDERS = (("text", "text_pair"), ("question", "context"), ("text", "choices"))
TRIED_AGAIN = (429, 502, 503)
MODEL = re.compile(r"(?P<root>.*?)/v1/models/(?P<name>[^/:]+)(?P<where>/(?:versions|labels)/[^/:]+)?/*")


class Client:
    """Asks a model that is served.

    Args:
        url: of the model, such as `http://localhost:8501/v1/models/reviews`; it may go on with
            `/versions/3` or `/labels/stable`.
        timeout: seconds for a connection and for each reply.
        retries: how often a request is sent again when the server is busy or not there; after 0, 1, 2, 4
            and more seconds, or after as many as the server says.
        batch_size: rows of a request.
        token: that the server asks for.

    Raises:
        ValueError: `url` is not that of a model.

    Example:

    ```python
    client = kba.serving.Client("http://localhost:8501/v1/models/reviews")
    client.predict(["A great film!"])  # [{"label": "positive", "score": 0.98, ...}]
    ```

    Reference: [TensorFlow Serving's REST API](https://www.tensorflow.org/tfx/serving/api_rest).
    """

    def __init__(self, url, timeout=30.0, retries=3, batch_size=32, token=None):
        found = MODEL.fullmatch(url)
        if not found or not url.startswith(("http://", "https://")):
            raise ValueError(
                f"url={url!r}: give the address of a model, such as http://localhost:8501/v1/models/reviews"
            )
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.batch_size = batch_size
        self.session = requests.Session()
        if token is not None:
            self.session.headers["Authorization"] = f"Bearer {token}"
        retry = Retry(
            total=retries,
            backoff_factor=0.5,
            status_forcelist=TRIED_AGAIN,
            allowed_methods=None,  # a prediction changes nothing: it can be asked for again
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(max_retries=retry))

    def predict(self, inputs, signature_name=""):
        """The answers to some inputs.

        Args:
            inputs: list with a str for each text; for models of more than one text a tuple of them, or
                a dict by the names of the inputs; for others what they take, as JSON has it.
            signature_name: by default `serving_default`.

        Returns:
            list with a dict for each input, from names of outputs to values.

        Raises:
            ServingError: the server refuses the request; `code` and `http_status` say why.
            ConnectionError, TimeoutError: there is no server, or it does not answer in time.
        """
        if isinstance(inputs, str):
            raise ValueError(f"{inputs!r:.80} is one text: give a list")
        inputs = list(inputs)
        answers = []
        outputs = None
        if any(isinstance(row, tuple) for row in inputs):
            inputs = self._named(inputs, signature_name)
        for start in range(0, len(inputs), self.batch_size):
            body = {"instances": inputs[start : start + self.batch_size]}
            if signature_name:
                body["signature_name"] = signature_name
            for answer in self._send("POST", ":predict", body)["predictions"]:
                # One output alone comes without its name.
                if not isinstance(answer, dict) or answer.keys() == {"b64"}:
                    outputs = outputs or list(self.signature(signature_name)["outputs"])
                    answer = {outputs[0]: answer} if len(outputs) == 1 else answer
                answers.append(answer)
        return answers

    def signature(self, name=""):
        """`inputs` and `outputs` of a signature, as the server describes them."""
        found = self.metadata()["metadata"]["signature_def"]["signature_def"]
        name = name or "serving_default"
        if name not in found:
            names = ", ".join(sorted(n for n in found if not n.startswith("__")))
            raise ValueError(f"signature_name={name!r}: the model has {names}")
        return found[name]

    def metadata(self):
        """What the server says of the model and its signatures."""
        return self._send("GET", "/metadata")

    def status(self):
        """The state of each version, the newest first: a list of dicts."""
        return self._send("GET", "")["model_version_status"]

    def _named(self, inputs, signature_name):
        """Tuples as dicts."""
        names = set(self.signature(signature_name)["inputs"])
        order = next((order for order in ORDERS if set(order) == names), None)
        if order is None:
            raise ValueError(f"the model takes {', '.join(sorted(names))}: give a dict for each input")
        return [dict(zip(order, row, strict=True)) if isinstance(row, tuple) else row for row in inputs]

    def _send(self, method, path, body=None):
        data = None if body is None else json.dumps(body)  # which, unlike requests, writes NaN
        headers = {"Content-Type": "application/json"}
        try:
            reply = self.session.request(
                method, self.url + path, data=data, headers=headers, timeout=self.timeout
            )
        except (requests.exceptions.Timeout, requests.exceptions.ConnectionError) as error:
            reason = getattr(error.args[0], "reason", None) if error.args else None
            if isinstance(error, requests.exceptions.Timeout) or isinstance(reason, ReadTimeoutError):
                raise TimeoutError(f"{self.url} does not answer within {self.timeout} seconds") from error
            raise ConnectionError(f"{self.url} cannot be reached: {error}") from error
        try:
            found = reply.json()
        except ValueError:
            found = {}
        if reply.status_code == 200 and found:
            return found
        message = found.get("error") if isinstance(found, dict) else None
        codes = [code for code, status in HTTP_STATUS.items() if status == reply.status_code]
        raise ServingError(
            f"{self.url}{path}: {message or reply.reason or 'no answer'}",
            codes[0] if codes else "UNKNOWN",
            reply.status_code,
        )
