"""One file over HTTP, whole: interrupted downloads go on where they stopped."""

import contextlib
import json
import time

from keras_bert_app.archives import MAX_BYTES
from keras_bert_app.files import writing

ATTEMPTS = 4
PAUSE = 1.0  # seconds before the second attempt; twice as long before each further one
TIMEOUTS = (10, 60)  # seconds to connect, and between two pieces of the answer
CHUNK = 2**18
PASSING = (408, 425, 429, 500, 502, 503, 504)
REFUSALS = {
    401: (PermissionError, "it needs a login: download it by hand and give the file or folder"),
    403: (PermissionError, "check the address, and whether the model needs a login or an agreement"),
    404: (FileNotFoundError, "check the address and the version at its end"),
    410: (FileNotFoundError, "it is gone: look for the model under another handle"),
}


def fetch(url, folder):
    """Downloads a file, or goes on with a download of before.

    Args:
        url: the address; redirects are followed, certificates always checked.
        folder: where the file `archive` and notes on it are kept until it is whole.

    Returns:
        path of the file, with as many bytes as the server said.

    Raises:
        ConnectionError: no connection, or it broke off too often, or the server is out of order.
        FileNotFoundError: the server answered 404 or 410.
        PermissionError: the server answered 401 or 403.
        OSError: the file cannot be written.
        ValueError: the answer is a web page, or too large.
    """
    import requests
    import urllib3

    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            problem = _try(url, folder)
            if problem is None:
                return folder / "archive"
        # InvalidURL and the like are ValueErrors: no second attempt will mend them.
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            problem = f"{type(error).__name__}: {error}"
            if isinstance(error, ValueError):
                raise ValueError(f"{url} is no address that can be asked: {problem}") from error
    raise ConnectionError(
        f"{url} was not downloaded in {ATTEMPTS} attempts: {problem}. Check the connection and try again "
        "(what was downloaded is kept), or download it by hand and give the file"
    )


def _try(url, folder):
    """One attempt. Returns None if the file is whole, or what went wrong and may pass."""
    import requests

    path, notes = folder / "archive", folder / "archive.json"
    # The bytes as they are, or their number would not be the one that the server gives.
    headers = {"Accept-Encoding": "identity"}
    have = path.stat().st_size if path.is_file() and notes.is_file() else 0
    if have:
        headers["Range"] = f"bytes={have}-"
        headers["If-Range"] = json.loads(notes.read_text())["etag"]
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS) as response:
        status = response.status_code
        if status == 416:  # there is nothing more; if it is the same file, as If-Range asks, it is whole
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return None
            path.unlink(missing_ok=True)
            return "the server does not go on with it"
        if status in PASSING:
            return f"the server answered {status} {response.reason}"
        if status not in (200, 206):
            error, advice = REFUSALS.get(status, (ConnectionError, "check the address"))
            raise error(f"{url}: {status} {response.reason}: {advice}")
        if "html" in response.headers.get("Content-Type", ""):
            raise ValueError(
                f"{url} answered with a web page ({response.url}), not with an archive: download the model "
                "by hand and give the file or folder"
            )
        if status == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            path.unlink()
            return f"the server sent the part {response.headers.get('Content-Range')!r}, not from {have} on"
        have = have if status == 206 else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        if total is not None and total > MAX_BYTES:
            raise ValueError(f"{url} has {total:,} bytes. No BERT is so large")
        with writing(folder):
            _note(notes, response.headers.get("ETag"))
            file = open(path, "ab" if have else "wb")  # noqa: SIM115
        with file, _bar(url, have, total) as advance:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                have += len(chunk)
                if have > MAX_BYTES:
                    raise ValueError(f"{url} has more than {MAX_BYTES:,} bytes. No BERT is so large")
                with writing(folder):
                    file.write(chunk)
                advance(len(chunk))
    return None if total in (None, have) else f"it broke off after {have:,} of {total:,} bytes"


def _note(notes, etag):
    """Keeps what the server calls this version of the file. Without it, a part cannot be gone on with."""
    if etag and not etag.startswith("W/"):
        notes.write_text(json.dumps({"etag": etag}))
    else:
        notes.unlink(missing_ok=True)


@contextlib.contextmanager
def _bar(url, done, total):
    """A progress bar, on a terminal only; gives a function that takes the number of new bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    if not console.is_terminal:  # a disabled bar of some releases of rich prints an empty line
        yield lambda number: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(url.partition("?")[0][-60:], total=total, completed=done)
        yield lambda number: progress.advance(task, number)
