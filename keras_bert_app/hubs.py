"""Models of Hugging Face, Kaggle and Google Cloud Storage, through their own clients."""

import contextlib
import fnmatch
import logging
import os
import shutil
import sys
from pathlib import Path

# In the folder of a repository on Hugging Face, what a BERT can be read from.
WANTED = (
    "config*.json", "bert_config.json", "sentence_bert_config.json", "tokenizer*.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.txt", "modules.json", "1_Pooling/*",
    "keras_bert_app.json", "encoder/*", "preprocess/*",
    "metadata.json", "task.json", "preprocessor.json", "*.weights.h5", "assets/*", "saved_model.pb",
    "variables/*", "*.ckpt*", "checkpoint",
)  # fmt: skip
SAFE_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TORCH_WEIGHTS = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")


def select_files(names):
    """The files of a Hugging Face repository that are needed, of the names of all.

    Weights as safetensors, and those of torch only if there are none: torch's can hold code. Never
    code, ONNX, or the same weights in yet another format.
    """

    def some(patterns):
        return [
            name
            for name in names
            if any(fnmatch.fnmatchcase(name, p) and (p[-2:] == "/*" or "/" not in name) for p in patterns)
            and not name.endswith((".py", ".onnx"))
        ]

    return sorted(some(WANTED) + (some(SAFE_WEIGHTS) or some(TORCH_WEIGHTS)))


def fetch_huggingface(handle, folder):
    """Downloads the files of `hf://organization/name[@revision]` that are needed.

    Args:
        handle: the handle.
        folder: where to; an interrupted download goes on in it.

    Returns:
        path of the folder with the files.

    Raises:
        ConnectionError: no connection, or the server is out of order.
        FileNotFoundError: there is no such repository or revision, or no model in it.
        PermissionError: it needs a login or an agreement.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    name, _, revision = handle.removeprefix("hf://").partition("@")
    quiet = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        about = HfApi().model_info(name, revision=revision or None)
        files = select_files([file.rfilename for file in about.siblings])
        target = folder / about.sha  # of one commit, whatever happens to the branch meanwhile
        for file in files:
            hf_hub_download(name, file, revision=about.sha, local_dir=target)
    except GatedRepoError as error:
        raise PermissionError(
            f"{handle} is gated: accept its terms on https://huggingface.co/{name}, then `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise FileNotFoundError(
            f"there is no {handle}: check the name and the revision; if it is private, `hf auth login`"
        ) from error
    except Exception as error:  # the client's own, its HTTP library's, and OSError: no common ancestor
        raise ConnectionError(
            f"{handle} was not downloaded: {type(error).__name__}: {error}. Try again, or download it by "
            "hand and give the folder"
        ) from error
    finally:
        if quiet:
            enable_progress_bars()
    if not files:
        raise FileNotFoundError(
            f"{handle} holds nothing that a BERT can be read from, such as config.json and "
            "model.safetensors: check the name"
        )
    shutil.rmtree(target / ".cache", ignore_errors=True)  # the client's notes
    return target


def fetch_kaggle(handle, folder):
    """Downloads the files of `kaggle://owner/model/framework/variation[/version]`.

    Args:
        handle: the handle; without a version it is the newest.
        folder: where to.

    Returns:
        path of the folder with the files.

    Raises:
        ConnectionError: no connection, or the server is out of order.
        FileNotFoundError: there is no such model.
        PermissionError: it needs a login or an agreement.
    """
    import kagglehub

    target = folder / "files"
    shutil.rmtree(target, ignore_errors=True)  # the client refuses a folder with files
    log = logging.getLogger("kagglehub")
    level = log.level
    log.setLevel(logging.WARNING)  # it writes to standard output, where answers go
    try:
        # Its progress bars are shown on anything; only a terminal is to have them.
        with open(os.devnull, "w") as nothing, contextlib.ExitStack() as quiet:
            if not sys.stderr.isatty():
                quiet.enter_context(contextlib.redirect_stderr(nothing))
            found = kagglehub.model_download(handle.removeprefix("kaggle://"), output_dir=str(target))
    except Exception as error:  # the client's own, requests', ValueError: no common ancestor
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == 404:
            raise FileNotFoundError(f"there is no {handle}: check the name and the version") from error
        if status in (401, 403):
            raise PermissionError(
                f"{handle} needs a login or an agreement: accept its terms on kaggle.com, then "
                "`kagglehub.login()`"
            ) from error
        raise ConnectionError(
            f"{handle} was not downloaded: {type(error).__name__}: {error}. Try again, or download it by "
            "hand and give the folder"
        ) from error
    finally:
        log.setLevel(level)
    if Path(found) != target:  # in Kaggle's and Colab's notebooks it is mounted elsewhere
        shutil.copytree(found, target)
    shutil.rmtree(target / ".complete", ignore_errors=True)  # the client's notes
    return target


def fetch_storage(handle, folder):
    """Copies a file or a folder of a file system that TensorFlow reads, such as `gs://bucket/path`.

    Args:
        handle: the address.
        folder: where to.

    Returns:
        path of the copy, a file or a folder.

    Raises:
        ConnectionError: it cannot be read.
        FileNotFoundError: there is nothing at the address.
    """
    import tensorflow as tf

    target = folder / "files"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    try:
        if not tf.io.gfile.exists(handle):
            raise FileNotFoundError(f"there is nothing at {handle}: check the address, and your rights to it")
        if not tf.io.gfile.isdir(handle):
            return _copy(handle, target / handle.rpartition("/")[2])
        for path, _, names in tf.io.gfile.walk(handle):
            inside = target / path.removeprefix(handle).strip("/")
            if not inside.resolve().is_relative_to(target.resolve()):
                raise ValueError(f"{handle}: {path} leads out of the folder. Do not trust this address")
            inside.mkdir(parents=True, exist_ok=True)
            for name in names:
                _copy(f"{path.rstrip('/')}/{name}", inside / name)
    except tf.errors.OpError as error:
        raise ConnectionError(
            f"{handle} was not copied: {error.message}. Check the address, or copy it by hand"
        ) from error
    return target


def _copy(source, target):
    """Copies a file, and checks that it has as many bytes."""
    import tensorflow as tf

    tf.io.gfile.copy(source, str(target), overwrite=True)
    if target.stat().st_size != tf.io.gfile.stat(source).length:
        raise ConnectionError(f"{source} was cut short. Try again, or copy it by hand")
    return target
