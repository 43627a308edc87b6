"""Datasets by name: the Large Movie Review Dataset and the sample that comes with the package."""

import hashlib
import tarfile
from importlib import resources
from pathlib import Path

from keras_bert_app.data.readers import check_labelled, read_class_folders, read_labelled

IMDB_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
IMDB_SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
IMDB_LABELS = {"neg": "negative", "pos": "positive"}


def load_imdb(path=None):
    """The Large Movie Review Dataset: 25,000 labelled reviews for training, 25,000 for testing.

    Args:
        path: a local copy, the archive `aclImdb_v1.tar.gz` or the folder `aclImdb` in it.
            By default the archive is downloaded once (84 MB) to Keras's cache. The archive's
            SHA-256 is checked.

    Returns:
        `(train, test)`, two lists of `(text, label)`, labels `"negative"` and `"positive"`.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: it is not the dataset.

    Reference: [Maas et al., 2011](https://ai.stanford.edu/~amaas/data/sentiment/)
    """
    if path is None:
        import keras

        path = keras.utils.get_file("aclImdb_v1.tar.gz", IMDB_URL, file_hash=IMDB_SHA256)
    path = Path(path)
    if path.is_dir():
        parts = {
            part: read_class_folders(path / part) for part in ("train", "test") if (path / part).is_dir()
        }
    elif path.is_file():
        parts = _read_imdb_archive(path)
    else:
        raise FileNotFoundError(f"there is no {path}: give aclImdb_v1.tar.gz or the folder aclImdb")
    if set(parts) != {"train", "test"}:
        raise ValueError(f"{path} has no train and test part: give aclImdb_v1.tar.gz or the folder aclImdb")
    return tuple(
        check_labelled([(text, IMDB_LABELS.get(label, label)) for text, label in parts[part]], path)
        for part in ("train", "test")
    )


def _read_imdb_archive(path):
    """Reads the reviews straight from the archive; nothing is unpacked to disk."""
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != IMDB_SHA256:
            raise ValueError(f"{path} is not the published archive, its SHA-256 differs: download it again")
    parts = {}
    with tarfile.open(path) as archive:
        for member in archive:
            names = member.name.split("/")
            if member.isfile() and len(names) == 4 and names[2] in IMDB_LABELS:
                text = archive.extractfile(member).read().decode("utf-8")
                parts.setdefault(names[1], []).append((member.name, text, names[2]))
    return {part: [(text, label) for _, text, label in sorted(rows)] for part, rows in parts.items()}


def load_sample():
    """A few hundred short movie reviews, written for this package: enough to try it, not more.

    Returns:
        `(train, test)`, two lists of `(text, label)`, labels `"negative"` and `"positive"`.

    Example:

    >>> train, test = load_sample()
    >>> sorted({label for text, label in train})
    ['negative', 'positive']
    """
    folder = resources.files("keras_bert_app") / "data" / "sample"
    with resources.as_file(folder) as path:
        return tuple(read_labelled(path / f"{part}.csv") for part in ("train", "test"))
