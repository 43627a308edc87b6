"""The examples of a pretraining run: prepared before, or now."""

import json
import os
import shutil
from pathlib import Path

from keras_bert_app import files
from keras_bert_app.data import readers
from keras_bert_app.data.shards import MANIFEST, Shards
from keras_bert_app.preparation import prepare_examples
from keras_bert_app.progress import say


def prepared_folders(data):
    """The folders of prepared examples, or None if `data` are texts."""
    paths = [Path(p) for p in ([data] if isinstance(data, str | os.PathLike) else data)]
    prepared = [(path / MANIFEST).is_file() for path in paths]
    if any(prepared) and not all(prepared):
        raise ValueError(
            f"{paths[prepared.index(False)]} holds no prepared examples, {paths[prepared.index(True)]} does: "
            "give texts or prepared examples, not both"
        )
    return paths if any(prepared) else None


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
    wanted = json.loads(json.dumps({"texts": texts, "preparation": options}, default=str))
    note = unfinished / "preparation.json"
    if not note.exists():
        with files.whole(note) as temporary:
            files.write_json(temporary, wanted)
    elif json.loads(note.read_text(encoding="utf-8")) != wanted:
        raise ValueError(
            f"{unfinished} holds an unfinished run with other texts or another preparation, see {note}. "
            "Give the same to go on with it, or remove it to start anew"
        )
    folders = [unfinished / f"examples-{length}" for length in sorted(set(lengths))]
    try:
        for length, folder in zip(sorted(set(lengths)), folders, strict=True):
            if folder.exists():
                continue
            say(f"preparing examples of length {length}")
            count = prepare_examples(sources, tokenizer, folder, sequence_length=length, **options)
            say("  ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in count.items()))
    except Exception:
        if not any(folder.exists() for folder in folders):
            shutil.rmtree(unfinished)  # nothing to go on with
        raise
    return folders


def open_all(folders):
    """dict from length to the `Shards` of it."""
    by_length = {}
    for folder in folders:
        by_length.setdefault(Shards(folder).sequence_length, []).append(folder)
    shards = {length: Shards(*group) for length, group in sorted(by_length.items())}
    kinds = {(s.objective, s.details["vocabulary_crc32"]) for s in shards.values()}
    if len(kinds) > 1:
        raise ValueError(
            f"{', '.join(map(str, folders))} were prepared with different objectives or vocabularies: "
            "prepare them alike"
        )
    return shards
