"""Fine-tuning from labelled texts to a saved model, beside Transformers and KerasHub.

    pip install ".[bench]"
    python benchmarks/finetuning.py train.jsonl.gz test.jsonl.gz --model all-MiniLM-L6-v2 --length 256
    python benchmarks/finetuning.py train.tsv.gz dev.tsv.gz --text sentence --model all-MiniLM-L6-v2

All learn the same texts from the same weights, in bfloat16, with the same epochs, batches, length and
learning rate. Ours is `kba.finetune`; Transformers' is `Trainer` with padding to the longest of a batch and
batches of like length; KerasHub's is `BertTextClassifier.fit`, which tokenizes within it and pads to the
length. The time is that from the texts in memory to the saved model: tokenizing, loading the weights,
compiling, training. Imports are not counted. Every run is a process of its own, the sides take turns, and
the table has the medians of the rounds, also of the speed as a share of ours in the same round. The accuracy
is that on all texts of TEST, its mean over the rounds, each of which has a seed of its own.
"""

import argparse
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
    parser.add_argument("--length", type=int, default=128, help="word pieces of the longest input")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    found = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        in_process(write_preset, args.model, args.length, folder)
        for number in range(args.rounds):
            for side in SIDES:
                found[side].append(in_process(measure, side, args, number, folder))
                print(side, found[side][-1], flush=True)
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


def measure(side, args, seed, folder):
    """Trains once and tests: a row of the results."""
    from keras_bert_app.tasks import get_task

    read = get_task("text-classification").read
    columns = {"text": args.text, "label": "label"}
    train, test = read(args.train, columns), read(args.test, columns)
    train = train[:: max(len(train) // args.number, 1)][: args.number]
    with tempfile.TemporaryDirectory() as output:
        seconds, accuracy = SIDES[side](args, train, test, seed, Path(folder), Path(output) / "model")
    return {
        "per_second": args.epochs * len(train) / seconds,
        "accuracy": accuracy,
        "peak_mib": peak_mib(),
    }


def ours(args, train, test, seed, folder, output):
    """`kba.finetune`."""
    import keras_bert_app as kba

    import_all("tensorflow_text", "keras_bert_app.training")
    start = time.perf_counter()
    model = kba.finetune(
        "text-classification", train, model=args.model, output=output, epochs=args.epochs, seed=seed,
        batch_size=BATCH_SIZE, learning_rate=args.learning_rate, sequence_length=args.length,
        precision="mixed_bfloat16",
    )  # fmt: skip
    return time.perf_counter() - start, model.evaluate(test)["accuracy"]


def transformers(args, train, test, seed, folder, output):
    """`Trainer`; what it has saved is tested by `evaluate`, untimed."""
    from keras_bert_app.tasks import get_task

    import_all("transformers", "transformers.trainer", "transformers.models.bert.modeling_bert")
    task = get_task("text-classification").learn(train)
    given = Set("text-classification", "", "", "", {}, args.length, args.epochs, args.learning_rate)
    start = time.perf_counter()
    hugging_face(given, task, train, args.model, seed, output)
    seconds = time.perf_counter() - start
    import keras_bert_app as kba

    model = kba.load(output)
    model.preprocessor = model.preprocessor.replace(sequence_length=args.length)
    return seconds, model.evaluate(test)["accuracy"]


def keras_hub(args, train, test, seed, folder, output):
    """`BertTextClassifier.fit`, with the same decay of the learning rate."""
    import keras
    import keras_hub
    import numpy as np

    keras.utils.set_random_seed(seed)
    labels = sorted({label for _, label in train})
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
    seconds = time.perf_counter() - start
    logits = classifier.predict([text for text, _ in test], batch_size=128, verbose=0)
    right = [labels[index] == label for index, (_, label) in zip(logits.argmax(-1), test, strict=True)]
    return seconds, sum(right) / len(right)


def import_all(*names):
    """Imports modules, so that their time is not taken."""
    import importlib

    for name in names:
        importlib.import_module(name)


SIDES = {"keras_bert_app": ours, "Transformers": transformers, "KerasHub": keras_hub}


if __name__ == "__main__":
    main()
