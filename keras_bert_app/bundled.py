"""The pretrained BERT that comes with the package."""

from pathlib import Path

DEFAULT = "bert_mini_reviews"
PACKAGE = Path(__file__).parent
# `setup.cfg` puts the models into the package; in a checkout they are beside it.
FOLDERS = (PACKAGE / "saved_models", PACKAGE.parent / "saved_models")


def bundled_folder():
    """The folder of `bert_mini_reviews`.

    Raises:
        FileNotFoundError: this installation lacks it.
    """
    for folder in FOLDERS:
        if (folder / DEFAULT / "config.json").is_file():
            return folder / DEFAULT
    raise FileNotFoundError(
        f"{DEFAULT} comes with the package, but {FOLDERS[0]} does not hold it: install the package again"
    )
