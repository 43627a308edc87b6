"""Compares the replies of a server with cases of the REST contract, see `tfs_rest_cases.json`."""

import base64
import http.client
import json
import math
import re
import urllib.parse


def body_of(case):
    """The bytes that a case sends."""
    if "body" in case:
        return json.dumps(case["body"]).encode()
    if "body_text" in case:
        return case["body_text"].encode()
    if "body_base64" in case:
        return base64.b64decode(case["body_base64"])
    if "body_generator" in case:
        given = case["body_generator"]
        middle = "".join(text * times for text, times in given["repeat"])
        return (given["prefix"] + middle + given["suffix"]).encode()
    return None


def send(url, case, timeout=60):
    """Status, headers and body of the reply to a case."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=timeout)
    try:
        connection.request(case["method"], case["path"], body_of(case), case["headers"])
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read()
    finally:
        connection.close()


def is_within(value, found):
    """True if `found` holds `value`: objects may have more keys."""
    if isinstance(value, dict):
        return isinstance(found, dict) and all(
            key in found and is_within(item, found[key]) for key, item in value.items()
        )
    return value == found


def is_close(value, found, rtol):
    if isinstance(value, list):
        return len(value) == len(found) and all(
            is_close(a, b, rtol) for a, b in zip(value, found, strict=True)
        )
    if isinstance(value, dict):
        return value.keys() == found.keys() and all(is_close(value[k], found[k], rtol) for k in value)
    if isinstance(value, float):
        return math.isclose(value, found, rel_tol=rtol)
    return value == found


def difference(case, status, headers, body):
    """None if a reply is as expected, else what is wrong with it."""
    if status != case["expected_status"]:
        return f"status {status} instead of {case['expected_status']}: {body[:300]!r}"
    expected = case["expected_body"]
    kind = expected["kind"]
    text = body.decode("utf-8", "replace")
    document = None
    if kind.startswith("json") or kind in ("any_error", "empty_or_error"):
        document = json.loads(text) if text else None
    error = document.get("error") if isinstance(document, dict) else None
    names = {name.lower(): value for name, value in headers.items()}
    fits = {
        "json_equals": lambda: document == expected["value"],
        "json_close": lambda: is_close(expected["value"], document, expected["rtol"]),
        "json_subset": lambda: is_within(expected["value"], document),
        "json_path_len": lambda: len(document[expected["path"]]) == expected["len"],
        "json_error_contains": lambda: (
            list(document) == ["error"] and all(item in error for item in expected["all_of"])
        ),
        "any_error": lambda: bool(error),
        "empty_or_error": lambda: not body or all(item in error for item in expected["all_of"]),
        "empty": lambda: not body,
        "any_not_json_error": lambda: not text.lstrip().startswith("{"),
        "text_contains": lambda: (
            all(item in text for item in expected["all_of"])
            and names["content-type"].startswith(expected.get("content_type", ""))
        ),
        "text_regex": lambda: re.search(expected["value"], text),
        "headers": lambda: (
            all(names.get(k.lower()) == v for k, v in expected.get("present", {}).items())
            and not any(k.lower() in names for k in expected.get("absent", []))
        ),
        "record_only": lambda: True,
    }[kind]()
    return None if fits else f"{text[:500]!r} instead of {expected}"
