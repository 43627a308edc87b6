"""From text files to the examples that a BERT is pretrained with."""

import hashlib
import itertools
import re
from pathlib import Path

import numpy as np

from keras_bert_app import files
from keras_bert_app.checkpoints import tokenizers
from keras_bert_app.data import corpus, readers, shards, tfrecord
from keras_bert_app.data.documents import tokenize_documents
from keras_bert_app.data.examples import OBJECTIVES, SegmentPairs, pack_documents
from keras_bert_app.preprocessing.vocabulary_file import checksum

SHUFFLED = 1000  # documents that are held back to be mixed
NAMES = 20  # of files that the manifest lists
CHUNK = 8_000_000  # word pieces of the documents among which a random next sentence is sought


def prepare_examples(
    sources,
    tokenizer,
    output,
    *,
    sequence_length=128,
    objective="next_sentence",
    short_seq_prob=0.1,
    duplicates=1,
    validation_share=0.01,
    exclude=(),
    text_column="text",
    document="blank_line",
    language="en",
    shard=(0, 1),
    seed=0,
):
    """Turns a corpus into examples for `pretrain`, a folder of TFRecord shards.

    The corpus is read once, and a small part of it is in memory at a time. Documents are mixed,
    split into sentences and tokenized; pieces are not masked yet. The same corpus and seed give
    the same examples.

    Args:
        sources: path, pattern or folder, or a list of them: `.txt`, `.jsonl`, `.csv` or `.tsv`, also
            with `.gz`; see `read_documents`.
        tokenizer: `BertTokenizer`, or the path of a `vocab.txt` for an uncased one.
        output: folder to be written; must not exist.
        sequence_length: word pieces of the longest example.
        objective: `"next_sentence"`, pairs of segments, of which half do not belong together, and
            a few more: what follows the last sentence of a document is always from another;
            `"sentence_order"`, pairs of which half are swapped; or `"masked_lm"`, full rows of one
            segment for the masked language model alone.
        short_seq_prob: share of the pairs that are made for a shorter, random length.
        duplicates: how often the corpus is used, each time with other pairs.
        validation_share: share of the documents that is kept for validation.
        exclude: path or list of paths of texts, such as a test set, that must not be in the corpus:
            a document with the same words, whatever their case and what is between them, is left out.
        text_column: name of the column or JSON key of the text.
        document: what a document is in a `.txt` file: `"blank_line"`, `"line"` or `"file"`.
        language: its code, for the abbreviations that end no sentence.
        shard: `(index, count)`: only this part of the documents, for `count` processes.
        seed: of order, pairs and choice for validation.

    Returns:
        dict: what was counted, as in `manifest.json`: `documents`, `excluded`, `sentences`,
        `split_sentences` (those longer than a row, which are cut in parts), `pieces`, `unknown`
        (how many are `[UNK]`), and `train_examples` and `validation_examples`.

    Raises:
        FileNotFoundError: no file has such a name.
        FileExistsError: `output` exists.
        ValueError: an option or a file cannot be used, or the corpus is too small.
        OSError: `output` cannot be written.

    Example:

    ```python
    kba.prepare_examples("corpus/*.txt", "vocab.txt", "examples-128")
    ```

    Reference: [google-research/bert](https://github.com/google-research/bert),
    `create_pretraining_data.py`.
    """
    from keras_bert_app.preprocessing.tokenizer import BertTokenizer

    options = {
        "sequence_length": sequence_length,
        "objective": objective,
        "short_seq_prob": short_seq_prob,
        "duplicates": duplicates,
        "validation_share": validation_share,
        "document": document,
        "language": language,
        "shard": shard,
        "seed": seed,
    }
    _check_options(**options)
    output = Path(output)
    if output.exists():
        raise FileExistsError(f"{output} exists: choose another output folder, or remove it")
    if not isinstance(tokenizer, BertTokenizer):
        tokenizer = BertTokenizer(tokenizer)
    reader = {"text_column": text_column, "document": document}
    texts = corpus.read_documents(sources, shard=shard, **reader)
    count = dict.fromkeys(("documents", "excluded", "sentences", "split_sentences", "pieces", "unknown"), 0)
    texts = _without(texts, _digests(exclude, reader), count)
    texts = corpus.shuffled(texts, SHUFFLED, [seed, 0])
    documents = tokenize_documents(texts, tokenizer, language, sequence_length - 3, count)
    random = np.random.default_rng([seed, 1])
    with files.whole(output) as temporary:
        temporary.mkdir()
        splits = {
            name: _Split(temporary, name, _maker(tokenizer, options), duplicates, [seed, 2 + number])
            for number, name in enumerate(shards.SPLITS)
        }
        for found in documents:
            splits["validation" if random.random() < validation_share else "train"].add(found)
        train, validation = (splits[name] for name in shards.SPLITS)
        if validation.needs_two and validation.number == 1:
            train.add(validation.documents.pop())  # no next sentence can come from another
        _check_corpus(train, count, sequence_length)
        written = {name: split.finish() for name, split in splits.items()}
        for name, entries in written.items():
            count[f"{name}_examples"] = sum(entry["examples"] for entry in entries)
        (temporary / "tokenizer").mkdir()
        tokenizers.write_huggingface(tokenizer, sequence_length, temporary / "tokenizer")
        shards.write_manifest(
            temporary,
            vocab_size=tokenizer.vocabulary_size,
            vocabulary_crc32=checksum(tokenizer.vocabulary),
            sources=_summary(readers.find_files(sources)),
            **tokenizers.casing(tokenizer.lowercase, tokenizer.strip_accents),
            **options,
            **count,
            **written,
        )
    return count


def _summary(paths):
    """What a manifest says of the texts: it travels with a model, and there may be very many."""
    size = sum(path.stat().st_size for path in paths)
    return {"files": len(paths), "bytes": size, "names": [path.name for path in paths[:NAMES]]}


def _check_options(sequence_length, objective, short_seq_prob, duplicates, validation_share, seed, **_):
    if type(sequence_length) is not int or sequence_length < 8:
        raise ValueError(f"sequence_length={sequence_length!r}: give a whole number of at least 8")
    if objective not in OBJECTIVES:
        raise ValueError(f"objective={objective!r}: one of {', '.join(OBJECTIVES)}")
    if type(duplicates) is not int or duplicates < 1:
        raise ValueError(f"duplicates={duplicates!r}: give a whole number of at least 1")
    if duplicates > 1 and objective == "masked_lm":
        raise ValueError(f"duplicates={duplicates} needs pairs: every pass gives the same full rows. Give 1")
    for name, share in (("short_seq_prob", short_seq_prob), ("validation_share", validation_share)):
        if not 0 <= share < 1:
            raise ValueError(f"{name}={share!r}: give a share of at least 0 and below 1")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed={seed!r}: give a whole number of at least 0")


def _digests(exclude, reader):
    """What the documents that must not be used are known by."""
    if not exclude:
        return frozenset()
    return frozenset(map(_digest, corpus.read_documents(exclude, **reader)))


def _digest(text):
    words = " ".join(re.findall(r"\w+", text.lower()))
    return hashlib.blake2b(words.encode(), digest_size=8).digest()


def _without(texts, digests, count):
    for text in _readable(texts):
        if digests and _digest(text) in digests:
            count["excluded"] += 1
        else:
            yield text


def _readable(texts):
    """Yields `texts`. That one cannot be read must not look as if `output` could not be written."""
    try:
        yield from texts
    except OSError as error:
        raise ValueError(f"the corpus cannot be read: {error}") from error


def _maker(tokenizer, options):
    """A function of documents and a random generator that yields examples."""
    frame = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    length = options["sequence_length"]
    if options["objective"] == "masked_lm":
        return lambda documents, random: pack_documents(documents, frame, length)
    swap = options["objective"] == "sentence_order"
    return SegmentPairs(frame, length, options["short_seq_prob"], swap)


def _check_corpus(train, count, sequence_length):
    if not count["documents"]:
        left = f" but the {count['excluded']} excluded documents" if count["excluded"] else ""
        raise ValueError(f"the corpus is empty: there is no word in it{left}. Give text")
    if train.pairs and 2 * count["split_sentences"] > count["sentences"]:
        raise ValueError(
            f"{count['split_sentences']} of {count['sentences']} sentences are longer than "
            f"sequence_length={sequence_length}: the text seems to have no punctuation. Raise "
            "sequence_length, or use the objective masked_lm, for which sentences do not matter"
        )
    if not train.number:
        raise ValueError(
            f"all {count['documents']} documents were taken for validation: give more, or none for it"
        )
    if train.pairs and train.longest < 2:
        raise ValueError(
            "no document for training has two sentences, so that nothing follows: say what a document "
            "is (blank_line, line or file), or use the objective masked_lm"
        )
    if train.needs_two and train.number < 2:
        raise ValueError(
            f"of {count['documents']} documents one is for training, so that no next sentence can come from "
            "another: give more, say what a document is (blank_line, line or file), or use the objective "
            "sentence_order or masked_lm"
        )


class _Split:
    """The training or the validation part: gathers documents and writes their examples.

    Args:
        folder, name, seed: see `ShardWriter`.
        maker: function of a list of `Document` and a generator, that yields examples.
        duplicates: how often it is called.
    """

    def __init__(self, folder, name, maker, duplicates, seed):
        self.writer = tfrecord.ShardWriter(folder, name, [*seed, 0])
        self.random = np.random.default_rng([*seed, 1])
        self.maker = maker
        self.duplicates = duplicates
        self.documents, self.pieces, self.number = [], 0, 0
        self.longest = 0  # sentences
        self.pairs = isinstance(maker, SegmentPairs)
        self.needs_two = self.pairs and not maker.swap

    def add(self, document):
        self.documents.append(document)
        self.pieces += len(document.pieces)
        self.number += 1
        self.longest = max(self.longest, len(document.ends))
        if self.pieces >= CHUNK and len(self.documents) > 3:
            # Two documents stay for the next time, so that at the end there are two.
            ready, self.documents = self.documents[:-2], self.documents[-2:]
            self.pieces = sum(len(document.pieces) for document in self.documents)
            self._write(ready)

    def finish(self):
        """The entries of the manifest."""
        if self.documents:
            self._write(self.documents)
        return self.writer.close()

    def _write(self, documents):
        for example in itertools.chain.from_iterable(
            self.maker(documents, self.random) for _ in range(self.duplicates)
        ):
            self.writer.write(example)
