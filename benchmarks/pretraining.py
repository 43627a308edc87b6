"""Speed and memory of pretraining a small BERT, beside Hugging Face's `Trainer`.

    pip install ".[bench]"
    python benchmarks/pretraining.py TEXTS.jsonl.gz --vocabulary vocab.txt

Both start from the same weights (4 layers of width 256, dropout 0.1), read the same examples, which
were prepared before, and do the same number of steps with the same batch size, precision, learning
rates, weight decay and clipping. Both draw new masks for every batch, 15 % of single pieces. Settings:

    rows    full rows for the masked language model alone
    pairs   pairs of segments, of unlike length, with next sentence prediction; both make batches
            of like length, Hugging Face with `train_sampling_strategy="group_by_length"`

Ours is one call of `kba.pretrain`. Hugging Face's is `Trainer` with
`DataCollatorForLanguageModeling`, its default optimizer, which is fused, and its default attention,
`"sdpa"`; data are read in the process of the training, as is its default (`--workers` for others), and
it is not compiled (`--compile` for `torch_compile=True`).

Every run is a process of its own, and the sides take turns. Time is that of the steps after the
warm-up, with all that is done in them: data, masks, forward, backward, clipping and update. In ours the
warm-up is a stage of its own, and the time is what the history says of the second, with the start of its
data. In Hugging Face's it is from the end of the last step of the warm-up to the end of the last
step, in a callback. Tokens are word pieces with [CLS] and [SEP], without padding. Memory is the
peak of the whole process, on Linux. The loss is the mean over the steps that were timed: when both
learn the same, it is nearly the same.
"""

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

OBJECTIVES = {"rows": "masked_lm", "pairs": "next_sentence"}
PRECISIONS = ("mixed_bfloat16", "float32")
SIDES = ("ours", "Hugging Face")


@dataclasses.dataclass(frozen=True)
class Job:
    """What both sides are to do.

    Args:
        start: folder of the checkpoint to start from.
        examples: folder of prepared examples.
        objective: of the examples.
        length: of the longest example.
        batch_size: examples of a step.
        precision: `"mixed_bfloat16"` or `"float32"`.
        warmup: steps before the time is taken; the learning rate rises in them.
        steps: steps that are timed.
        learning_rate: the highest.
        workers: processes in which Hugging Face reads the data.
        compile: whether Hugging Face compiles the model.
    """

    start: Path
    examples: Path
    objective: str
    length: int
    batch_size: int
    precision: str
    warmup: int
    steps: int
    learning_rate: float
    workers: int
    compile: bool


def main():
    """Measures all, prints a table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", nargs="+", help="texts, as `kba.prepare_examples` takes them")
    parser.add_argument("--vocabulary", help="vocab.txt; by default one of 8,000 is learned from the texts")
    parser.add_argument("--parts", type=int, default=1, help="use one of so many parts of the texts")
    parser.add_argument("--settings", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--warmup", type=int, default=5, help="steps before the time is taken")
    parser.add_argument("--steps", type=int, default=60, help="steps that are timed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=0, help="processes that read data for Hugging Face")
    parser.add_argument("--compile", action="store_true", help="torch_compile=True for Hugging Face")
    args = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        vocabulary = args.vocabulary or folder / "vocab.txt"
        if not args.vocabulary:
            in_process(learn_vocabulary, args.data, vocabulary)
        jobs = []
        for setting, precision in itertools.product(args.settings, args.precision):
            start, examples = folder / f"start-{setting}", folder / f"examples-{setting}"
            if not examples.exists():
                shape = OBJECTIVES[setting], args.length, args.parts
                in_process(prepare, args.data, vocabulary, *shape, start, examples)
            job = Job(
                start, examples, OBJECTIVES[setting], args.length, args.batch_size, precision, args.warmup,
                args.steps, args.learning_rate, args.workers, args.compile,
            )  # fmt: skip
            jobs.append((setting, job))
        runs = {(setting, job.precision, side): [] for setting, job in jobs for side in SIDES}
        for number, (setting, job) in itertools.product(range(args.repeats), jobs):
            for side in SIDES[:: 1 if number % 2 == 0 else -1]:
                runs[setting, job.precision, side].append(in_process(measure, side, job))
    print_table(runs)
    rows = [
        {"setting": setting, "precision": precision, "side": side, "runs": found}
        for (setting, precision, side), found in runs.items()
    ]
    print(json.dumps({name: value for name, value in vars(args).items() if name != "data"} | {"rows": rows}))


def in_process(function, *arguments):
    """What `function` returns in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def learn_vocabulary(data, output):
    """Writes a vocabulary of the texts."""
    import keras_bert_app as kba

    kba.train_vocabulary(data, output=output, size=8000)


def prepare(data, vocabulary, objective, length, parts, start, examples):
    """Writes the examples, and a checkpoint with random weights."""
    import keras

    import keras_bert_app as kba
    from keras_bert_app import prepare_examples

    keras.utils.set_random_seed(1)
    tokenizer = kba.BertTokenizer(vocabulary)
    prepare_examples(
        data, tokenizer, examples, sequence_length=length, objective=objective, validation_share=0,
        shard=(0, parts),
    )  # fmt: skip
    config = kba.BertConfig(
        tokenizer.vocabulary_size, hidden_size=256, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=1024, max_position_embeddings=max(length, 512),
    )  # fmt: skip
    heads = ("masked_lm",) if objective == "masked_lm" else ("masked_lm", "next_sentence")
    model = kba.pretrainer(kba.bert_encoder(config), heads)
    kba.save_checkpoint(model, start, preprocessor=kba.BertPreprocessor(tokenizer, length))


def measure(side, job):
    """Tokens, seconds, loss and peak memory of one run of one side."""
    with tempfile.TemporaryDirectory() as folder:
        result = (ours if side == SIDES[0] else hugging_face)(job, Path(folder) / "model")
    result["tokens_per_second"] = result["tokens"] / result["seconds"]
    return result


def peak_mib():
    """The peak of this process; `resource` would count the process that started it."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def ours(job, output):
    """`kba.pretrain` with a stage for the warm-up."""
    from keras_bert_app import pretrain
    from keras_bert_app.data.shards import Shards

    pretrain(
        job.examples,
        model=job.start,
        output=output,
        stages=[(job.length, steps, job.batch_size) for steps in (job.warmup, job.steps)],
        learning_rate=job.learning_rate,
        warmup=job.warmup / (job.warmup + job.steps),
        masking={"whole_word": False},
        precision=job.precision,
        validate_every=job.steps,
    )
    peak = peak_mib()
    timed = json.loads((output / "history.json").read_text())[-1]
    # What `timed` says of tokens is an average of all examples: count those that were used.
    shards = Shards(job.examples)
    epochs = (shards.batches("train", job.batch_size, epoch=epoch, multiple=8) for epoch in itertools.count())
    batches = itertools.islice(itertools.chain.from_iterable(epochs), job.steps)
    tokens = sum(int(batch["input_mask"].sum()) for batch in batches)
    return {"tokens": tokens, "seconds": timed["seconds"], "loss": timed["loss"], "peak_mib": peak}


def hugging_face(job, output):
    """`Trainer` with a callback that looks at the clock."""
    import transformers

    transformers.set_seed(0)
    pairs = job.objective == "next_sentence"
    kind = transformers.AutoModelForPreTraining if pairs else transformers.AutoModelForMaskedLM
    tokenizer = transformers.AutoTokenizer.from_pretrained(job.start)
    seen = {}

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step in (job.warmup, job.warmup + job.steps):
                seen[state.global_step] = time.monotonic(), state.num_input_tokens_seen
                control.should_log = True  # the mean of the loss since the last time

    trainer = transformers.Trainer(
        kind.from_pretrained(job.start),
        transformers.TrainingArguments(
            output,
            max_steps=job.warmup + job.steps,
            per_device_train_batch_size=job.batch_size,
            learning_rate=job.learning_rate,
            warmup_steps=job.warmup,
            weight_decay=0.01,
            adam_epsilon=1e-6,
            bf16=job.precision == "mixed_bfloat16",
            use_cpu=True,
            train_sampling_strategy="group_by_length" if pairs else "random",
            dataloader_drop_last=True,
            dataloader_num_workers=job.workers,
            torch_compile=job.compile,
            include_num_input_tokens_seen="non_padding",
            logging_steps=job.warmup + job.steps,
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=read_examples(job.examples),
        data_collator=transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
        callbacks=[Clock],
    )
    trainer.train()
    trainer.save_model()
    (start, before), (end, after) = seen.values()
    loss = next(row["loss"] for row in trainer.state.log_history if row["step"] == job.warmup + job.steps)
    return {"tokens": after - before, "seconds": end - start, "loss": loss, "peak_mib": peak_mib()}


def read_examples(folder):
    """The examples under Hugging Face's names, a list of dicts."""
    from keras_bert_app.data import tfrecord

    names = {
        "input_ids": "input_word_ids",
        "token_type_ids": "input_type_ids",
        "next_sentence_label": tfrecord.LABELS,
    }
    examples = []
    for path in sorted(folder.glob("train-*.tfrecord")):
        columns = {}
        for name, ragged in tfrecord.parse(path.read_bytes()).items():
            splits = itertools.pairwise(ragged.splits)
            columns[name] = [ragged.values[start:end].tolist() for start, end in splits]
        if tfrecord.LABELS in columns:
            columns[tfrecord.LABELS] = [label for (label,) in columns[tfrecord.LABELS]]
        used = {theirs: columns[name] for theirs, name in names.items() if name in columns}
        examples += [dict(zip(used, row, strict=True)) for row in zip(*used.values(), strict=True)]
    return examples


def print_table(runs):
    """The medians, as a Markdown table."""
    print("| setting | precision | side | tokens/s (range) | ratio | peak memory, MiB | loss |")
    print("|---|---|---|---|---|---|---|")
    speeds = {key: [run["tokens_per_second"] for run in found] for key, found in runs.items()}
    for (setting, precision, side), found in runs.items():
        speed = speeds[setting, precision, side]
        ratio = statistics.median(speed) / statistics.median(speeds[setting, precision, SIDES[1]])
        memory, loss = (statistics.median(run[name] for run in found) for name in ("peak_mib", "loss"))
        print(
            f"| {setting} | {precision} | {side} | {statistics.median(speed):,.0f} "
            f"({min(speed):,.0f} to {max(speed):,.0f}) | {ratio:.2f} | {memory:,.0f} | {loss:.3f} |"
        )


if __name__ == "__main__":
    main()
