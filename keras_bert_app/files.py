"""Write a file or a folder whole or not at all."""

import contextlib
import json
import os
import shutil
from pathlib import Path


@contextlib.contextmanager
def whole(path):
    """Gives a temporary path beside `path` to write to, and renames it to `path` at the end.

    If anything fails, what was written is removed and `path` is as it was before.

    Args:
        path: the file or folder to be written. A folder must not exist yet.

    Raises:
        OSError: it cannot be written; the message names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()


@contextlib.contextmanager
def writing(path):
    """Makes an OSError in its block one that names `path` and the remedy."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) and error.errno is None:
            raise  # of what was to be read, with a message of its own
        raise OSError(
            f"cannot write {path}: {error.strerror or error}. Free space there or choose another place"
        ) from error


def write_json(path, value):
    """Writes `value` as indented JSON to the file `path`."""
    Path(path).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def versions(folder):
    """The numbers of the versions in a folder, the newest last."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(path.name) for path in paths if path.name.isascii() and path.name.isdigit())
