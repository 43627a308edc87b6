"""How time and memory grow with the length, the batch and the layers: a plot and the fitted exponents.

    pip install .
    python benchmarks/growth.py --output growth.png

A BERT of the width of the one that comes with the package, with random weights and word pieces without
padding: the time of a training step of a classifier with AdamW, and of a call of the encoder, at 16 rows of
128 word pieces and 4 layers, of which one number changes at a time. Every point is a process of its own; its
time is the median of the rounds, its memory the highest that the process had over what it had with the
packages imported. The exponent is the slope of a line through the logarithms of the last three points.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from pathlib import Path

from speed import config_of, in_process, machine, peak_mib

BASE = {"length": 128, "batch": 16, "layers": 4}
POINTS = {
    "length": (32, 64, 128, 256, 512),
    "batch": (1, 4, 16, 64, 256),
    "layers": (2, 4, 8, 16, 24),
}
KINDS = ("training step", "encoder")
MEASURED = {"seconds": "seconds", "mib": "MiB over the imports"}
WARM_UP = 2
FITTED = 3  # points


def main():
    """Measures, prints a table and one JSON object, and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="file of the plot, .png or .svg")
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    found = {kind: {name: [] for name in POINTS} for kind in KINDS}
    for kind in KINDS:
        for name, values in POINTS.items():
            for value in values:
                sizes = {**BASE, name: value}
                found[kind][name].append(in_process(measure, kind, sizes, args.precision, args.rounds))
                print(kind, name, value, found[kind][name][-1], flush=True)
    exponents = {
        kind: {
            name: {what: exponent(values, [row[what] for row in rows[name]]) for what in MEASURED}
            for name, values in POINTS.items()
        }
        for kind, rows in found.items()
    }
    print("\n| | grows with | from | to | time, exponent | memory, exponent |\n|---|---|---|---|---|---|")
    for kind, names in exponents.items():
        for name, fitted in names.items():
            ends = [f"{row['seconds'] * 1000:,.0f} ms, {row['mib']:,.0f} MiB" for row in found[kind][name]]
            ranges = f"{POINTS[name][0]}: {ends[0]} | {POINTS[name][-1]}: {ends[-1]}"
            print(f"| {kind} | {name} | {ranges} | {fitted['seconds']:.2f} | {fitted['mib']:.2f} |")
    draw(found, exponents, args.output)
    shown = {**vars(args), "output": str(args.output), "machine": machine()}
    print(json.dumps({**shown, "points": POINTS, "found": found, "exponents": exponents}))


def measure(kind, sizes, precision, rounds):
    """The time in seconds and the memory in MiB of one point."""
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_bert_app as kba
    from keras_bert_app import optimization

    length, batch, layers = sizes.values()
    config = dataclasses.replace(
        config_of("bundled"), num_hidden_layers=layers, max_position_embeddings=max(length, 128)
    )
    imported = peak_mib()
    random = np.random.default_rng(0)
    ids = random.integers(5, config.vocab_size, (batch, length)).astype("int32")
    names = ("input_word_ids", "input_mask", "input_type_ids")
    inputs = {n: tf.constant(x) for n, x in zip(names, (ids, ids * 0 + 1, ids * 0), strict=True)}
    encoder = kba.bert_encoder(config, dtype=precision)
    if kind == KINDS[0]:
        model = kba.text_classifier(encoder, 2)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimization.adamw(1e-5, 1000), loss, jit_compile=False)
        labels = tf.constant(random.integers(0, 2, batch))

        def run():
            model.train_on_batch(inputs, labels)
    else:
        call = tf.function(lambda given: encoder(given, training=False)["pooled_output"], autograph=False)

        def run():
            call(inputs).numpy()

    seconds = []
    for _ in range(WARM_UP + rounds):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds[WARM_UP:]), "mib": peak_mib() - imported}


def exponent(values, measured):
    """The slope in the logarithms, of the last points: small sizes cost what any size does."""
    import numpy as np

    x, y = (np.log(numbers[-FITTED:]) for numbers in (values, measured))
    return float(np.polyfit(x, y, 1)[0])


def draw(found, exponents, path):
    """A panel for each size and each measure, with logarithmic axes."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(len(MEASURED), len(POINTS), figsize=(12, 7), layout="constrained")
    for row, (what, title) in zip(panels, MEASURED.items(), strict=True):
        for panel, (name, values) in zip(row, POINTS.items(), strict=True):
            for kind in KINDS:
                measured = [point[what] for point in found[kind][name]]
                panel.loglog(values, measured, marker="o", label=f"{kind}: {exponents[kind][name][what]:.2f}")
            panel.set_xticks(values, list(map(str, values)))
            panel.minorticks_off()
            panel.set_xlabel(name)
            panel.legend()
        row[0].set_ylabel(title)
    figure.suptitle("At 16 rows, 128 word pieces, 4 layers, width 256; in the legend the fitted exponents")
    figure.savefig(path)


if __name__ == "__main__":
    main()
