"""The local folder of a model, wherever it is: on this machine, on a hub, or at an address."""

import hashlib
import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from keras_bert_app import cache, hubs, published
from keras_bert_app.archives import is_archive, unpack
from keras_bert_app.bundled import DEFAULT, bundled_folder
from keras_bert_app.fetching import fetch

FORMS = (
    "a local folder or archive; an address of a .zip or .tar.gz; https://tfhub.dev/...; "
    "kaggle://owner/model/framework/variation/version; hf://organization/name; gs://bucket/path; "
    "or a short name, see `keras-bert models`"
)
KAGGLE_PAGE = re.compile(
    r"https?://(?:www\.)?kaggle\.com/models/([^/]+/[^/]+)/(?:frameworks/)?([^/]+)/(?:variations/)?([^/]+)"
    r"(?:/(?:versions/)?(\d+))?"
)
FACE_PAGE = re.compile(r"https?://huggingface\.co/([\w.-]+/[\w.-]+)(?:/tree/([^/]+))?")
KAGGLE = re.compile(r"kaggle://[\w.-]+/[\w.-]+/[\w.-]+/[\w.-]+(?:/\d+)?")
FACE = re.compile(r"hf://[\w.-]+/[\w.-]+(?:@[\w./-]+)?")


def download(handle, offline=False, sha256=None):
    """The local folder of a model. What was downloaded once is not asked for again.

    Downloads are kept in the folder `$KBA_CACHE`, by default `~/.cache/keras_bert_app` (on a Mac
    `~/Library/Caches/keras_bert_app`). Only whole models stand there; interrupted downloads go on
    where they stopped. A model of TF-Hub that `$TFHUB_CACHE_DIR` holds is taken from there.

    Args:
        handle: one of

            - a local folder, file or checkpoint prefix (`folder/bert_model.ckpt`), also with
              `file://`: it is given back as it is; a local `.zip`, `.tar`, `.tar.gz` or `.tgz` is
              unpacked;
            - the address of such an archive, `http://...` or `https://...`;
            - any other address: a TF-Hub handle, such as
              `"https://tfhub.dev/tensorflow/bert_en_uncased_L-12_H-768_A-12/4"`. What tfhub.dev does
              not give is looked for on Kaggle, where its models are now;
            - `"kaggle://owner/model/framework/variation"`, also with `/version`, or the address of its
              page. Without a version it is the newest at the time of the download;
            - `"hf://organization/name"`, also with `@revision`: the files that are needed, weights as
              safetensors if there are any;
            - `"gs://bucket/path"`, an archive or a folder;
            - a short name, such as `"bert_base_en_uncased"`: the places where Google published the
              model, one after the other; or `"bert_mini_reviews"`, which comes with the package,
              whatever the current folder holds.
        offline: whether to make no request, whatever the handle.
        sha256: what the SHA-256 of the archive must be. It is checked before the archive is unpacked,
            and again for a model from the cache.

    Returns:
        `pathlib.Path` of the folder; if an archive holds nothing but a folder, that one's.

    Raises:
        FileNotFoundError: there is no such file, folder or model, or it is not in the cache and
            `offline`.
        OSError: it cannot be downloaded, or the cache cannot be written: `ConnectionError`,
            `PermissionError` and `TimeoutError` are such.
        ValueError: there is no such form of a handle, the archive is damaged, hostile or another one
            than `sha256` says, or there is no archive that `sha256` could be of.

    Example:

    >>> download("all-MiniLM-L6-v2").name
    'all-MiniLM-L6-v2'
    """
    if sha256 is not None:
        sha256 = sha256.lower()
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ValueError(f"sha256={sha256!r}: give the 64 hexadecimal digits")
    local = _local(handle)
    if local is not None and not (local.is_file() and is_archive(local)):
        if sha256 is not None:
            raise ValueError(f"sha256 is for archives, and {local} is none: leave it out")
        return local
    candidates = _candidates(str(handle), sha256) if local is None else [_digest_handle(local, sha256)]
    for candidate in candidates:
        found = cache.find(candidate, sha256) or (sha256 is None and _tfhub_cache(candidate))
        if found:
            return found
    if offline and local is None:
        raise FileNotFoundError(
            f"{handle} is not in the cache {cache.cache_folder()}, and offline=True forbids to download it"
        )
    failures = []
    for candidate in candidates:
        try:
            return _get(candidate, local, sha256)
        except (OSError, ValueError) as error:
            if len(candidates) == 1:
                raise
            failures.append(f"\n- {candidate}: {error}")
    raise OSError(
        f"{handle} was found nowhere. Download it by hand and give the file or folder. What was tried:"
        + "".join(failures)
    )


def _local(handle):
    """The path that a handle names, if it does."""
    if handle == DEFAULT:  # first: a folder of this name in the current one is "./bert_mini_reviews"
        return bundled_folder()
    if isinstance(handle, str) and handle.startswith("file://"):
        path = Path(unquote(urlsplit(handle).path))
    elif isinstance(handle, str) and ("://" in handle or not handle):
        return None
    else:
        path = Path(handle).expanduser()
    if path.exists() or (path.parent / f"{path.name}.index").is_file():
        return path
    if not isinstance(handle, str) or handle.startswith(("file://", "/", ".", "~")) or is_archive(handle):
        raise FileNotFoundError(f"there is no {path}: check the path")
    return None


def _candidates(handle, sha256):
    """The canonical handles of what a handle names, in the order in which they are to be tried."""
    if "://" not in handle:
        return _published(handle, sha256)
    scheme = handle.partition("://")[0]
    if match := KAGGLE_PAGE.fullmatch(handle.partition("?")[0].rstrip("/")):
        handle = "kaggle://" + "/".join(part for part in match.groups() if part)
    elif match := FACE_PAGE.fullmatch(handle.rstrip("/")):
        handle = f"hf://{match[1]}" + (f"@{match[2]}" if match[2] else "")
    elif scheme in ("http", "https", "gs"):
        handle = handle.rstrip("/")
    elif not (KAGGLE if scheme == "kaggle" else FACE).fullmatch(handle):
        raise ValueError(f"{handle!r} is no handle. A handle is {FORMS}")
    if sha256 is not None and (handle.startswith(("kaggle:", "hf:")) or _is_storage_folder(handle)):
        raise ValueError(f"sha256 is for archives, and {handle} is none: pin a revision or a version")
    moved = published.kaggle_handle(handle)
    return [handle, moved] if moved and sha256 is None else [handle]


def _published(name, sha256):
    """The handles of a short name, or a ValueError that helps."""
    try:
        handles = list(published.handles_of(name))
    except ValueError as error:
        hint = f" Did you mean hf://{name}?" if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else ""
        raise ValueError(f"there is no folder {name!r}, and {error}{hint} A handle is {FORMS}") from error
    if sha256 is not None:
        raise ValueError(f"sha256 is of one archive, and {name} is at several places: give {handles[0]}")
    return handles


def _is_storage_folder(handle):
    return handle.startswith("gs:") and not is_archive(handle)


def _digest_handle(path, sha256):
    """The canonical handle of a local archive, by its content."""
    digest = _check_digest(path, sha256)
    return f"sha256://{digest}/{path.name}"


def _check_digest(path, sha256):
    """The SHA-256 of a file. Raises ValueError if it is another than `sha256`, if that is given."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 not in (None, digest):
        raise ValueError(
            f"{path} has the SHA-256 {digest}, not {sha256}: it is another file. Do not trust it"
        )
    return digest


def _tfhub_cache(handle):
    """The folder where tensorflow_hub keeps the model of a handle, if it does."""
    folder = os.environ.get("TFHUB_CACHE_DIR")
    if not folder or not handle.startswith("http"):
        return None
    path = Path(folder) / hashlib.sha1(handle.encode()).hexdigest()
    return path if path.is_dir() and any(path.iterdir()) else None


def _get(handle, local, sha256):
    """Downloads what a canonical handle names, if no other process was quicker, and keeps it."""
    with cache.locked(handle) as partial:
        found = cache.find(handle, sha256)
        if found:
            return found
        if local is not None:
            return _keep_archive(handle, local, sha256)
        if handle.startswith("hf:"):
            path = hubs.fetch_huggingface(handle, partial)
        elif handle.startswith("kaggle:"):
            path = hubs.fetch_kaggle(handle, partial)
        elif handle.startswith("gs:"):
            path = hubs.fetch_storage(handle, partial)
        else:
            # Not with tensorflow_hub: it unpacks while it downloads, without limits, and keeps the
            # beginning of an archive that was cut as if it were the whole.
            path = fetch(_address(handle), partial)
        if path.is_dir():
            return cache.keep(handle, lambda folder: shutil.move(path, folder))
        try:
            return _keep_archive(handle, path, sha256)
        except ValueError as error:
            shutil.rmtree(partial)  # it is whole and no good: the next time, from the start
            raise ValueError(str(error).replace(str(path), handle)) from error


def _keep_archive(handle, path, sha256):
    digest = _check_digest(path, sha256)
    return cache.keep(handle, lambda folder: unpack(path, folder), digest)


def _address(handle):
    """What is asked for: an archive itself, or a TF-Hub handle with the query of its protocol."""
    if is_archive(handle.partition("?")[0]):
        return handle
    return f"{handle}{'&' if '?' in handle else '?'}tf-hub-format=compressed"
