"""Fine-tuning from labelled texts to a saved model, beside Transformers and KerasHub.

    pip install ".[bench]"
    python benchmarks/finetuning.py train.jsonl.gz test.jsonl.gz --model all-MiniLM-L6-v2 --length 256
    python benchmarks/finetuning.py train.tsv.gz dev.tsv.gz --text sentence --model all-MiniLM-L6-v2

All learn the same texts from the same weights, in bfloat16, with the same epochs, batches, length and
learning rate. Ours is `kba.finetune`; Transformers' is `Trainer` with padding to the longest of a batch, with
batches of like length and with batches at random, as ours are where texts are few; KerasHub's is
`BertTextClassifier.fit`, which tokenizes within it and pads to the length. None warms up. The time is that
from the texts in memory to the saved model: tokenizing, loading the weights, compiling, training. Imports are
not counted. Every run is a process of its own, the sides take turns, and the table has the medians of the
rounds, also of the speed as a share of ours in the same round, and the highest memory of that process. The
accuracy, of the saved model in another process and in the precision in which it loads, is that on the texts
of TEST, its mean over the rounds, each of which has a seed of its own.
"""

import argparse
import functools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from quality import BATCH_SIZE, Set, hugging_face
from speed import in_process, machine, median, peak_mib


def main():
    """Measures and prints a table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--model", required=True, help="folder of a Hugging Face BERT")
    parser.add_argument("--text", default="text", help="name of the column of the texts")
    parser.add_argument("--number", type=int, default=5000, help="texts, from all over TRAIN")
    parser.add_argument("--test-number", type=int, help="the same of TEST; all if left out")
    parser.add_argument("--length", type=int, default=128, help="word pieces of the longest input")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--sides", nargs="+", choices=SIDES, default=list(SIDES), metavar="SIDE",
        help=f"keras_bert_app among them; all if left out: {', '.join(map(repr, SIDES))}",
    )  # fmt: skip
    args = parser.parse_args()
    if "keras_bert_app" not in args.sides:
        parser.error("--sides: the speed of the others is measured by that of keras_bert_app: name it too")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    train, test = (in_process(read, path, args.text) for path in (args.train, args.test))
    train, test = some(train, args.number), some(test, args.test_number or len(test))
    found = {side: [] for side in args.sides}
    with tempfile.TemporaryDirectory() as folder:
        in_process(write_preset, args.model, args.length, folder)
        for number in range(args.rounds):
            for side in args.sides:
                learn, answer = SIDES[side]
                output = Path(folder) / f"{side}-{number}"
                row = in_process(measure, learn, args, train, number, Path(folder), output)
                row["accuracy"] = in_process(accuracy_of, answer, args, train, test, output)
                found[side].append(row)
                print(side, row, flush=True)
    print("\n| | examples/s | of ours | accuracy | peak memory, MiB |\n|---|---|---|---|---|")
    for side, rounds in found.items():
        ratio = median("per_second", rounds, found["keras_bert_app"])
        accuracy = statistics.mean(row["accuracy"] for row in rounds)
        numbers = f"{median('per_second', rounds):.1f} | {ratio:.2f} | {accuracy:.4f}"
        print(f"| {side} | {numbers} | {median('peak_mib', rounds):,.0f} |")
    print(json.dumps({**vars(args), "machine": machine(), "found": found}))


def write_preset(model, length, folder):
    """The weights as KerasHub reads them."""
    import keras_bert_app as kba

    preprocessor, encoder = kba.from_pretrained(model, sequence_length=length)
    kba.save_checkpoint(encoder, Path(folder) / "preset", format="keras_hub", preprocessor=preprocessor)


def read(path, column):
    """Pairs of a text and its label."""
    from keras_bert_app.tasks import get_task

    return get_task("text-classification").read(path, {"text": column, "label": "label"})


def some(examples, number):
    """So many, from all over."""
    return examples[:: max(len(examples) // number, 1)][:number]


def measure(learn, args, train, seed, folder, output):
    """Trains once: a row of the results."""
    seconds = learn(args, train, seed, folder, output)
    return {"per_second": args.epochs * len(train) / seconds, "peak_mib": peak_mib()}


def accuracy_of(answer, args, train, test, output):
    """The share of the texts whose label is the one that a saved model gives."""
    found = answer(args, labels_of(train), [text for text, _ in test], output)
    right = [str(one) == str(label) for one, (_, label) in zip(found, test, strict=True)]  # "1" and 1
    return sum(right) / len(right)


def labels_of(examples):
    """The labels, sorted."""
    return sorted({label for _, label in examples})


def learn_ours(args, train, seed, folder, output):
    """`kba.finetune`."""
    import keras_bert_app as kba

    import_all("tensorflow_text", "keras_bert_app.training")
    start = time.perf_counter()
    kba.finetune(
        "text-classification", train, model=args.model, output=output, epochs=args.epochs, seed=seed,
        batch_size=BATCH_SIZE, learning_rate=args.learning_rate, sequence_length=args.length,
        precision="mixed_bfloat16", warmup=0.0,
    )  # fmt: skip
    return time.perf_counter() - start


def answer_by_load(args, labels, texts, output):
    """What `kba.load` makes of what this package or Transformers has saved."""
    import keras_bert_app as kba

    model = kba.load(output)
    model.preprocessor = model.preprocessor.replace(sequence_length=args.length)
    return [found["label"] for found in model(texts)]


def learn_transformers(sampling, args, train, seed, folder, output):
    """`Trainer`, as in `quality.py`."""
    from types import SimpleNamespace

    import_all("transformers", "transformers.trainer", "transformers.models.bert.modeling_bert")
    task = SimpleNamespace(pairs=False, labels=labels_of(train))
    given = Set("text-classification", "", "", "", {}, args.length, args.epochs, args.learning_rate)
    start = time.perf_counter()
    hugging_face(given, task, train, args.model, seed, output, sampling)
    return time.perf_counter() - start


def learn_keras_hub(args, train, seed, folder, output):
    """`BertTextClassifier.fit`, with the same decay of the learning rate."""
    import keras
    import keras_hub
    import numpy as np

    keras.utils.set_random_seed(seed)
    labels = labels_of(train)
    texts, targets = [text for text, _ in train], np.array([labels.index(label) for _, label in train])
    start = time.perf_counter()
    models, preset = keras_hub.models, str(folder / "preset")
    preprocessor = models.BertTextClassifierPreprocessor.from_preset(preset, sequence_length=args.length)
    classifier = models.BertTextClassifier.from_preset(
        preset, num_classes=len(labels), preprocessor=preprocessor, dtype="mixed_bfloat16"
    )
    steps = args.epochs * -(-len(train) // BATCH_SIZE)
    rate = keras.optimizers.schedules.PolynomialDecay(args.learning_rate, steps, 0.0)
    classifier.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    classifier.fit(texts, targets, batch_size=BATCH_SIZE, epochs=args.epochs, verbose=0)
    classifier.save(output.with_suffix(".keras"))
    return time.perf_counter() - start


def answer_by_keras_hub(args, labels, texts, output):
    """What a saved classifier says."""
    import keras
    import keras_hub  # noqa: F401  registers its layers

    classifier = keras.saving.load_model(output.with_suffix(".keras"))
    logits = classifier.predict(texts, batch_size=128, verbose=0)
    return [labels[index] for index in logits.argmax(-1)]


def import_all(*names):
    """Imports modules, so that their time is not taken."""
    import importlib

    for name in names:
        importlib.import_module(name)


SIDES = {
    "keras_bert_app": (learn_ours, answer_by_load),
    "Transformers, batches of like length": (
        functools.partial(learn_transformers, "group_by_length"),
        answer_by_load,
    ),
    "Transformers, batches at random": (functools.partial(learn_transformers, "random"), answer_by_load),
    "KerasHub": (learn_keras_hub, answer_by_keras_hub),
}


if __name__ == "__main__":
    main()
