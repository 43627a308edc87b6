"""The examples of a pretraining run: prepared before, or now."""

import contextlib
import glob
import json
import os
from pathlib import Path

from keras_bert_app import files
from keras_bert_app.checkpoints import tokenizers
from keras_bert_app.data import readers
from keras_bert_app.data.shards import MANIFEST, Shards
from keras_bert_app.preparation import prepare_examples
from keras_bert_app.preprocessing.vocabulary_file import checksum
from keras_bert_app.progress import say


def prepared_folders(data):
    """The folders of prepared examples, or None if `data` are texts.

    Args:
        data: path or pattern, or a list of them.

    Raises:
        ValueError: there are both, or the examples are in folders below.
    """
    given = [data] if isinstance(data, str | os.PathLike) else data
    paths = [Path(n) for p in given for n in (sorted(glob.glob(str(p))) or [p])]
    prepared = [path for path in paths if (path / MANIFEST).is_file()]
    for path in paths:
        below = sorted(path.glob(f"*/{MANIFEST}")) if path.is_dir() else []
        if below and path not in prepared:
            raise ValueError(
                f"{path} is no folder of prepared examples, but {below[0].parent} is: give those you mean"
            )
        if prepared and path not in prepared:
            raise ValueError(
                f"{path} holds no prepared examples, {prepared[0]} does: give one kind, not both"
            )
    return prepared or None


def prepare_all(sources, tokenizer, lengths, unfinished, options):
    """Prepares the examples of each length, unless an earlier start of the run did.

    Args:
        sources: texts, see `prepare_examples`.
        tokenizer: `BertTokenizer`.
        lengths: of the stages.
        unfinished: folder of the run, where the examples are kept until it is done.
        options: dict of arguments of `prepare_examples`.

    Returns:
        list of folders.

    Raises:
        ValueError: an option cannot be given, or an earlier start had others, or other texts.
    """
    given = {"sequence_length", "shard"} & set(options)
    if given:
        raise ValueError(f"preparation: {', '.join(sorted(given))} cannot be given: use prepare_examples")
    texts = [[str(path), path.stat().st_size] for path in readers.find_files(sources)]
    known = {
        "vocabulary_crc32": checksum(tokenizer.vocabulary),
        **tokenizers.casing(tokenizer.lowercase, tokenizer.strip_accents),
    }
    wanted = json.loads(json.dumps({"texts": texts, "tokenizer": known, "preparation": options}, default=str))
    folders = [unfinished / f"examples-{length}" for length in sorted(set(lengths))]
    note = unfinished / "preparation.json"
    begun = [path for path in (unfinished / "state.npz", *folders) if path.exists()]
    if begun and not note.exists():
        raise ValueError(
            f"{unfinished} holds an unfinished run on examples that were prepared before: give these to go "
            "on with it, or remove it to start anew"
        )
    if begun and json.loads(note.read_text(encoding="utf-8")) != wanted:
        raise ValueError(
            f"{unfinished} holds an unfinished run with other texts, another tokenizer or preparation, see "
            f"{note}. Give the same to go on with it, or remove it to start anew"
        )
    if not begun:  # first, so that no examples are ever without it
        with files.whole(note) as temporary:
            files.write_json(temporary, wanted)
    for length, folder in zip(sorted(set(lengths)), folders, strict=True):
        if folder.exists():
            continue
        say(f"preparing examples of length {length}")
        try:
            count = prepare_examples(sources, tokenizer, folder, sequence_length=length, **options)
        except BaseException:
            if not begun and not any(path.exists() for path in folders):  # there is nothing to go on with
                note.unlink()
                with contextlib.suppress(OSError):  # it is not empty
                    unfinished.rmdir()
            raise
        say("  ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in count.items()))
    return folders


def open_all(folders):
    """dict from length to the `Shards` of it."""
    by_length, kinds = {}, set()
    for folder in folders:
        opened = Shards(folder)
        by_length.setdefault(opened.sequence_length, []).append(folder)
        names = ("objective", "vocabulary_crc32", *tokenizers.casing())
        kinds.add(tuple(opened.details.get(name) for name in names))
    if len(kinds) > 1:
        raise ValueError(
            f"{', '.join(map(str, folders))} were prepared with different objectives, vocabularies or "
            "casing: prepare them alike"
        )
    return {length: Shards(*group) for length, group in sorted(by_length.items())}
