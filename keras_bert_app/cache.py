"""The folder where downloaded models are kept: whole ones only, one folder for each handle."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

from keras_bert_app import archives
from keras_bert_app.files import whole, write_json, writing

WORD_SECONDS = 2  # of waiting for another process until a word is said
LOCK_SECONDS = 3600
SOURCE = "source.json"


def cache_folder():
    """The folder of the cache: `$KBA_CACHE`, or the user's own cache folder. It is made if need be.

    Raises:
        OSError: it cannot be made.
    """
    if os.environ.get("KBA_CACHE"):
        folder = Path(os.environ["KBA_CACHE"]).expanduser().absolute()
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches" / "keras_bert_app"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras_bert_app"
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def find(handle, sha256=None):
    """The model of a handle, if it is in the cache.

    Args:
        handle: the handle, in its one canonical form.
        sha256: what the SHA-256 of its archive must be, if given.

    Returns:
        path of the folder, or None.

    Raises:
        ValueError: the archive was another one.
    """
    folder = _entry(handle)
    if not (folder / SOURCE).is_file():
        return None
    source = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
    if sha256 is not None and source["sha256"] != sha256:
        raise ValueError(
            f"the archive of {handle} in the cache has the SHA-256 {source['sha256']}, not {sha256}: "
            f"remove {folder} to get it again, or correct sha256"
        )
    model = folder / source["folder"]
    return model if model.is_dir() else None


@contextlib.contextmanager
def locked(handle):
    """Holds other processes and threads off the handle; gives a folder for what is not whole yet.

    What is left in that folder when the block fails is there the next time. It is removed when
    the block ends well.

    Raises:
        TimeoutError: another process has held it for too long.
    """
    from filelock import FileLock, Timeout

    folder = _entry(handle)
    partial = cache_folder() / ".partial" / folder.name
    lock = cache_folder() / ".locks" / folder.name
    with writing(lock):
        lock.parent.mkdir(exist_ok=True)
    # A lock of the operating system: it goes with the process that holds it, however that ends.
    lock = FileLock(lock)
    try:
        try:
            lock.acquire(timeout=WORD_SECONDS)
        except Timeout:
            print(f"waiting for another process that downloads {handle}", file=sys.stderr)
            lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise TimeoutError(
            f"{handle}: another process has been downloading it for {LOCK_SECONDS:,} seconds. "
            "Wait for it, or end it"
        ) from error
    try:
        for stale in folder.parent.glob(f".{folder.name}.part-*"):  # of processes that were killed
            shutil.rmtree(stale)
        with writing(partial):
            partial.mkdir(parents=True, exist_ok=True)
        yield partial
        shutil.rmtree(partial, ignore_errors=True)
    finally:
        lock.release()


def keep(handle, fill, sha256=None):
    """Puts a model into the cache, whole or not at all.

    Args:
        handle: the handle, in its one canonical form.
        fill: function of the path of a folder, that makes the folder with the model's files.
        sha256: SHA-256 of the archive that it came from, if any.

    Returns:
        path of the folder; if it holds nothing but a folder, that one's.
    """
    folder = _entry(handle)
    if folder.exists():  # someone took the model out of it
        shutil.rmtree(folder)
    with whole(folder) as temporary:
        temporary.mkdir()
        fill(temporary / _name(handle))
        model = archives.inner_folder(temporary / _name(handle)).relative_to(temporary)
        write_json(temporary / SOURCE, {"handle": handle, "sha256": sha256, "folder": str(model)})
    return folder / model


def _entry(handle):
    """The folder of a handle: a name that people can read, and a hash."""
    return cache_folder() / f"{_name(handle)}-{hashlib.sha256(handle.encode()).hexdigest()[:16]}"


def _name(handle):
    """The word of a handle that says which model it is: the last one that is no version."""
    path = handle.partition("://")[2].partition("?")[0].partition("#")[0]
    for suffix in archives.SUFFIXES:
        path = path.removesuffix(suffix)
    words = [re.sub(r"[^\w.-]+", "_", word.partition("@")[0]).strip(".") for word in path.split("/")]
    words = [word for word in words if word and not word.isdigit()]
    return words[-1][:80] if words else "model"
