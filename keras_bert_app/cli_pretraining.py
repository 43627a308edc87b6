"""The commands from raw text to a pretrained BERT: `vocab`, `prepare`, `pretrain`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from keras_bert_app.quiet import quiet_import

Texts = Annotated[
    list[str],
    typer.Argument(help="TXT, JSONL, CSV or TSV, also .gz; folders or patterns.", show_default=False),
]
Vocabulary = Annotated[Path | None, typer.Option(help="vocab.txt, for a config.", show_default=False)]
Cased = Annotated[bool, typer.Option("--cased", help="The vocabulary has case and accents.")]
Objective = Annotated[
    str | None,
    typer.Option(
        help="next_sentence or sentence_order: pairs of segments, of which about half do not belong "
        "together or are swapped; masked_lm: full rows without pairs."
    ),
]
Document = Annotated[
    str | None,
    typer.Option(help="What a document is in a TXT file: it ends at a blank_line, or is a line or the file."),
]
TextColumn = Annotated[str | None, typer.Option(help="Column or JSON key of the text.")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(help="Texts that must not be used, such as a test set; may be repeated."),
]
BACKENDS = ("tensorflow", "jax", "torch")


def vocab(
    files: Annotated[
        list[str],
        typer.Argument(
            help="TXT with a text on each line, JSONL, CSV, TSV, also .gz; or patterns.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option(help="Such as vocab.txt.", show_default=False)],
    size: Annotated[int, typer.Option(help="Tokens of the vocabulary.")] = 30_000,
    cased: Annotated[bool, typer.Option("--cased", help="Keep case and accents.")] = False,
    reserved: Annotated[
        list[str] | None, typer.Option(help="A token to be put after the special ones; may be repeated.")
    ] = None,
    min_frequency: Annotated[
        int, typer.Option(help="How often pieces must stand together to be joined.")
    ] = 2,
    limit_alphabet: Annotated[
        int | None, typer.Option(help="Most different characters; by default enough for 99.95 % of the text.")
    ] = None,
    text_column: TextColumn = "text",
):
    """Learn a vocabulary of word pieces from text."""
    from keras_bert_app.vocabulary import train_vocabulary

    tokens = train_vocabulary(
        files,
        output=output,
        size=size,
        lowercase=not cased,
        reserved_tokens=reserved or (),
        min_frequency=min_frequency,
        limit_alphabet=limit_alphabet,
        text_column=text_column,
    )
    print(f"{len(tokens)} tokens in {output}")


def prepare(
    files: Texts,
    output: Annotated[Path, typer.Option(help="Folder of shards; must not exist.", show_default=False)],
    vocabulary: Vocabulary = None,
    cased: Cased = False,
    model: Annotated[
        str | None,
        typer.Option(help="Handle of a BERT that has the vocabulary, in the place of --vocabulary."),
    ] = None,
    sequence_length: Annotated[int, typer.Option(help="Word pieces of the longest example.")] = 128,
    objective: Objective = "next_sentence",
    short_seq_prob: Annotated[float, typer.Option(help="Share of pairs of a shorter, random length.")] = 0.1,
    duplicates: Annotated[int, typer.Option(help="How often the corpus is used, with other pairs.")] = 1,
    validation_share: Annotated[float, typer.Option(help="Share of the documents for validation.")] = 0.01,
    exclude: Exclude = None,
    text_column: TextColumn = "text",
    document: Document = "blank_line",
    language: Annotated[str, typer.Option(help="Its code, for abbreviations that end no sentence.")] = "en",
    shard: Annotated[
        str, typer.Option(help="INDEX/COUNT: this part of the documents alone, for COUNT processes.")
    ] = "0/1",
    seed: Annotated[int, typer.Option(help="Of order, pairs and choice for validation.")] = 0,
):
    """Turn text into examples for pretrain, a folder of TFRecord shards.

    keras-bert prepare corpus/*.txt --vocabulary vocab.txt --output examples-128
    """
    if (vocabulary is None) == (model is None):
        raise ValueError("give --vocabulary or --model, one of the two")
    index, _, count = shard.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise ValueError(f"--shard {shard}: give INDEX/COUNT, such as 0/8")
    quiet_import()
    from keras_bert_app import handles
    from keras_bert_app.preparation import prepare_examples

    tokenizer = _tokenizer(vocabulary, cased)
    if model is not None:
        tokenizer = handles.build_preprocessor(handles.open_checkpoint(model)).tokenizer
    found = prepare_examples(
        files,
        tokenizer,
        output,
        sequence_length=sequence_length,
        objective=objective,
        short_seq_prob=short_seq_prob,
        duplicates=duplicates,
        validation_share=validation_share,
        exclude=exclude or (),
        text_column=text_column,
        document=document,
        language=language,
        shard=(int(index), int(count)),
        seed=seed,
    )
    for name, number in found.items():
        print(f"{name.replace('_', ' '):20}{number:14,}")
    print(output)


def pretrain(
    data: Annotated[
        list[str],
        typer.Argument(help="Texts as of prepare, or the folders that it wrote.", show_default=False),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="A .json file with a config, to start from random weights; or the handle of a BERT, to go "
            "on with its weights.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder; must not exist.", show_default=False)],
    vocabulary: Vocabulary = None,
    cased: Cased = False,
    stages: Annotated[
        str,
        typer.Option(help="LENGTH:STEPS[:BATCH], separated by commas: 128:9000:64,512:1000:16."),
    ] = "128:10000:64",
    learning_rate: Annotated[float, typer.Option(help="The highest; small models like up to 1e-3.")] = 1e-4,
    warmup: Annotated[float, typer.Option(help="Share of the steps in which it rises.")] = 0.01,
    weight_decay: Annotated[float, typer.Option(help="Of all but biases and normalization.")] = 0.01,
    gradient_accumulation: Annotated[int, typer.Option(help="Batches of one step.")] = 1,
    dropout: Annotated[
        float | None, typer.Option(help="Rate while pretraining; by default that of the config.")
    ] = None,
    objective: Objective = None,
    document: Document = None,
    text_column: TextColumn = None,
    exclude: Exclude = None,
    precision: Annotated[str, typer.Option(help="float32 or mixed_bfloat16.")] = "float32",
    validate_every: Annotated[int, typer.Option(help="Steps between two validations.")] = 1000,
    checkpoint_minutes: Annotated[float, typer.Option(help="Time between two saves of the state.")] = 10,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write events for TensorBoard.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Print where the time of a step went, and write a trace of it.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of weights, order, masks and dropout.")] = 0,
    backend: Annotated[
        str | None,
        typer.Option(
            help="tensorflow, jax or torch; jax and torch read prepared examples without TensorFlow. By "
            "default $KERAS_BACKEND, or tensorflow."
        ),
    ] = None,
):
    """Pretrain a BERT with masked words and next sentences. Stopped or killed, it goes on.

    keras-bert pretrain corpus/*.txt --model config.json --vocabulary vocab.txt --output my-bert

    keras-bert pretrain reviews.jsonl --model bert_base_en_uncased --output bert-of-reviews
    """
    if backend is not None:
        if backend not in BACKENDS:
            raise ValueError(f"--backend {backend}: one of {', '.join(BACKENDS)}")
        os.environ["KERAS_BACKEND"] = backend  # before the first import of Keras
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        quiet_import()
    from keras_bert_app.pretraining import pretrain as run

    options = {"objective": objective, "document": document, "text_column": text_column, "exclude": exclude}
    run(
        data,
        model=model,
        output=output,
        vocabulary=_tokenizer(vocabulary, cased),
        stages=read_stages(stages),
        learning_rate=learning_rate,
        warmup=warmup,
        weight_decay=weight_decay,
        gradient_accumulation=gradient_accumulation,
        dropout=dropout,
        preparation={name: value for name, value in options.items() if value is not None},
        precision=precision,
        validate_every=validate_every,
        checkpoint_minutes=checkpoint_minutes,
        tensorboard=tensorboard,
        profile=profile,
        seed=seed,
    )
    print(output)


def _tokenizer(vocabulary, cased):
    """What `--vocabulary` and `--cased` say."""
    if cased and vocabulary is None:
        raise ValueError("--cased needs --vocabulary: a model has its own casing")
    if not cased:
        return vocabulary
    from keras_bert_app.preprocessing.tokenizer import BertTokenizer

    return BertTokenizer(vocabulary, lowercase=False)


def read_stages(text):
    """The stages that `LENGTH:STEPS[:BATCH],...` says, a list of tuples of int."""
    stages = [part.split(":") for part in text.split(",")]
    if not all(len(stage) in (2, 3) and all(map(str.isdecimal, stage)) for stage in stages):
        raise ValueError(f"--stages {text}: give LENGTH:STEPS[:BATCH], such as 128:9000:64,512:1000:16")
    return [tuple(map(int, stage)) for stage in stages]
