"""How good fine-tuning is, beside Hugging Face's `Trainer` from the same weights, on the same data.

    pip install ".[bench]"
    python benchmarks/quality.py DATA --model all-MiniLM-L6-v2

DATA holds the sets under `glue/`, `squad/` and `wnut17/`, in the files in which they are published; see
`SETS`. Both have the same epochs, batches, lengths and learning rates. Ours is `kba.finetune` with its
defaults for all else. Hugging Face's is `Trainer` with its own, as in its `run_glue.py`, `run_ner.py` and
`run_qa.py`. Both train in bfloat16 where that is safe (`mixed_bfloat16`, `bf16=True`), keep the last epoch,
and are measured by `evaluate`: what Hugging Face trained is saved, read with `kba.load`, and run in float32,
as ours is.

Ours has a warm-up by default, a tenth of the steps in which the learning rate rises, but for tokens;
Hugging Face's has none. `--sides "ours without warm-up"` and `"ours with warm-up"` have what they say.

Every run is a process of its own. Its figures are added to the file of `--results` as soon as it is done,
and what is there is not run again. The table has the mean of the seeds and the standard deviation.
"""

import argparse
import dataclasses
import json
import multiprocessing
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

OURS = {  # arguments of `finetune`
    "ours": {},
    "ours without warm-up": {"warmup": 0.0},
    "ours with warm-up": {"warmup": 0.1},
}
THEIRS = "Hugging Face"


@dataclasses.dataclass(frozen=True)
class Set:
    """One set of data, and how both sides learn it.

    Args:
        task: name of the task.
        train, test: files under the folder of the data.
        metric: the figure of the report that counts.
        columns: see `finetune`.
        length: word pieces of the longest input.
        epochs: how often the data are gone through.
        learning_rate: the highest.
    """

    task: str
    train: str
    test: str
    metric: str
    columns: dict = dataclasses.field(default_factory=dict)
    length: int = 128
    epochs: int = 3
    learning_rate: float = 5e-5


def glue(name, metric, text, pair=None, label="label", **options):
    """A set of GLUE; it is tested with its development part, the test part has no labels."""
    columns = {"text": text, "label": label, **({} if pair is None else {"pair": pair})}
    files = (f"glue/{name}/{part}.tsv.gz" for part in ("train", "dev"))
    return Set("text-classification", *files, metric, columns, **options)


SETS = {
    "RTE": glue("RTE", "accuracy", "sentence1", "sentence2"),
    "MRPC": glue("MRPC", "accuracy", "#1 String", "#2 String", "Quality"),
    "STS-B": glue("STS-B", "spearman", "sentence1", "sentence2", "score"),
    "WNUT-17": Set(
        "token-classification", "wnut17/train.conll", "wnut17/dev.conll", "f1", learning_rate=2e-4
    ),
    "CoLA": glue("CoLA", "matthews_correlation", "4", label="2"),
    "SQuAD 1.1": Set(
        "question-answering",
        "squad/v1.1_train_articles.json.gz",
        "squad/v1.1_dev_articles.json.gz",
        "f1",
        length=256,
        epochs=2,
        learning_rate=1e-4,
    ),
    "SST-2": glue("SST-2", "accuracy", "sentence", epochs=1),
}
BATCH_SIZE = 32


def main():
    """Runs what is missing in the results, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data")
    parser.add_argument("--model", required=True, help="folder of a Hugging Face BERT")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--sides", nargs="+", choices=[*OURS, THEIRS], default=["ours", THEIRS])
    parser.add_argument("--results", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.results.open()] if args.results.exists() else []
    model = Path(args.model).resolve().name
    rows = [row for row in rows if row["model"] == model and row["recipe"] == recipe(SETS[row["set"]])]
    done = {(row["set"], row["seed"], row["side"]) for row in rows}
    for name in args.sets:
        for seed in args.seeds:
            for side in args.sides:
                if (name, seed, side) not in done:
                    rows.append(in_process(measure, name, seed, side, args.data, args.model))
                    with args.results.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    print_table([row for row in rows if row["set"] in args.sets and row["seed"] in args.seeds], args.sides)


def recipe(given):
    """Learning rate, epochs and length of a set, as the table shows them."""
    return f"{given.learning_rate:g}, {given.epochs}, {given.length}"


def in_process(function, *arguments):
    """What `function` returns in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(name, seed, side, data, model):
    """Trains and tests once: a row of the results."""
    import keras_bert_app as kba
    from keras_bert_app.tasks import get_task

    given = SETS[name]
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "model"
        if side in OURS:
            kba.finetune(
                given.task, data / given.train, model=model, output=output, epochs=given.epochs,
                batch_size=BATCH_SIZE, learning_rate=given.learning_rate, sequence_length=given.length,
                seed=seed, precision="mixed_bfloat16", columns=given.columns, **OURS[side],
            )  # fmt: skip
            # The run folder keeps the precision of the training; both are tested in float32.
            trained = kba.load(output)
            task = trained.task
            _, encoder = kba.from_pretrained(model, dtype="float32")
            tested = task.build(encoder, 0.1)
            tested.set_weights(trained.model.get_weights())
            preprocessor = trained.preprocessor
        else:
            examples = get_task(given.task).read(data / given.train, given.columns)
            task = get_task(given.task).learn(examples)
            hugging_face(given, task, examples, model, seed, output)
            found = kba.load(output, options={"pairs": task.pairs} if hasattr(task, "pairs") else None)
            tested = found.model
            preprocessor = found.preprocessor.replace(sequence_length=given.length)
        from keras_bert_app.task_model import TaskModel

        report = TaskModel(task, preprocessor, tested).evaluate(data / given.test, columns=given.columns)
    return {
        "set": name, "seed": seed, "side": side,
        "model": Path(model).resolve().name, "recipe": recipe(given),
        given.metric: report[given.metric] * (1 if given.task == "question-answering" else 100),
    }  # fmt: skip


def hugging_face(given, task, examples, model, seed, output, sampling="random"):
    """`Trainer` on the same examples; the model is saved in `output`."""
    import transformers

    transformers.set_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    inputs = {
        "text-classification": classification_inputs,
        "token-classification": tagging_inputs,
        "question-answering": answering_inputs,
    }
    rows, kind, options = inputs[given.task](tokenizer, task, examples, given.length)
    if kind is transformers.AutoModelForTokenClassification:
        collator = transformers.DataCollatorForTokenClassification(tokenizer)
    else:
        collator = transformers.DataCollatorWithPadding(tokenizer)
    trainer = transformers.Trainer(
        # On a CPU faster than its default at 256 word pieces, and as fast at 16.
        kind.from_pretrained(model, attn_implementation="eager", **options),
        transformers.TrainingArguments(
            output,
            num_train_epochs=given.epochs,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=given.learning_rate,
            seed=seed,
            bf16=True,
            use_cpu=True,
            train_sampling_strategy=sampling,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=rows,
        data_collator=collator,
    )
    trainer.train()
    trainer.save_model(output)
    tokenizer.save_pretrained(output)


def names_of(labels):
    """The names of the labels for a Hugging Face config."""
    names = [str(label) for label in labels]
    return {"num_labels": len(names), "id2label": dict(enumerate(names))} | {
        "label2id": {name: index for index, name in enumerate(names)}
    }


def classification_inputs(tokenizer, task, examples, length):
    """Rows for `Trainer`, the class of the model and its options."""
    import transformers

    texts = [text for text, _ in examples]
    columns = map(list, zip(*texts, strict=True)) if task.pairs else [texts]
    encoded = tokenizer(*columns, truncation=True, max_length=length)
    if task.labels is None:
        labels, options = [float(label) for _, label in examples], {"num_labels": 1}
    else:
        labels, options = [task.labels.index(label) for _, label in examples], names_of(task.labels)
    return as_rows(encoded, labels=labels), transformers.AutoModelForSequenceClassification, options


def tagging_inputs(tokenizer, task, examples, length):
    """The same for words: the first piece of each has its tag, as in `run_ner.py`."""
    import transformers

    words = [words for words, _ in examples]
    encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=length)
    labels = []
    for row, (_, tags) in enumerate(examples):
        places = encoded.word_ids(row)
        first = [place is not None and place not in places[:i] for i, place in enumerate(places)]
        labels.append([task.labels.index(tags[p]) if f else -100 for p, f in zip(places, first, strict=True)])
    return (
        as_rows(encoded, labels=labels),
        transformers.AutoModelForTokenClassification,
        names_of(task.labels),
    )


def answering_inputs(tokenizer, task, examples, length):
    """The same for questions: windows that overlap by 128 word pieces, or half, as in `run_qa.py`."""
    import transformers

    from keras_bert_app.data.squad import is_at_its_place

    examples = [
        (given, target)
        for given, target in examples
        if target["answers"] and is_at_its_place(given[1], target["answers"][0])
    ]
    questions, contexts = (list(texts) for texts in zip(*(given for given, _ in examples), strict=True))
    encoded = tokenizer(
        questions, contexts, truncation="only_second", max_length=length, stride=min(128, length // 2),
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    starts, ends = [], []
    for row, example in enumerate(encoded.pop("overflow_to_sample_mapping")):
        answer = examples[example][1]["answers"][0]
        begin, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
        inside = [
            place
            for place, ((first, last), text) in enumerate(
                zip(encoded["offset_mapping"][row], encoded.sequence_ids(row), strict=True)
            )
            if text == 1 and last > begin and first < end
        ]
        offsets = encoded["offset_mapping"][row]
        whole = inside and offsets[inside[0]][0] <= begin and offsets[inside[-1]][1] >= end
        starts.append(inside[0] if whole else 0)
        ends.append(inside[-1] if whole else 0)
    encoded.pop("offset_mapping")
    rows = as_rows(encoded, start_positions=starts, end_positions=ends)
    return rows, transformers.AutoModelForQuestionAnswering, {}


def as_rows(encoded, **more):
    """A list of dicts from a dict of lists."""
    columns = {**encoded, **more}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def print_table(rows, sides):
    """The mean and the standard deviation of each set and side, as a Markdown table."""
    print(f"| set | measured | {' | '.join(sides)} | learning rate, epochs, length |")
    print(f"|---|---|{'---|' * len(sides)}---|")
    for name, given in SETS.items():
        shown = []
        for side in sides:
            found = [row[given.metric] for row in rows if (row["set"], row["side"]) == (name, side)]
            deviation = statistics.stdev(found) if len(found) > 1 else 0
            shown.append(f"{statistics.mean(found):.1f} ± {deviation:.1f} ({len(found)})" if found else "")
        if any(shown):
            print(f"| {name} | {given.metric} | {' | '.join(shown)} | {recipe(given)} |")


if __name__ == "__main__":
    main()
