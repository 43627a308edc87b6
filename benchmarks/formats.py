"""Size, accuracy and speed of a text classifier in every format and precision.

    pip install ".[litert,onnx,openvino]"
    python benchmarks/formats.py RUN TEST.jsonl.gz --number 5000

RUN is the run folder of a fine-tuned classifier; TEST has the columns text and label. Every model answers the
same texts, in batches of 32 of like length, tokenizing included, on all cores; the time is the median of the
rounds. The first line is the Keras model itself.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

QUANTIZED = (None, "float16", "int8")


def main():
    """Exports, measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("test", type=Path)
    parser.add_argument("--number", type=int, default=5000, help="texts, from all over the file")
    parser.add_argument("--speed", type=int, default=1000, help="of these, for the speed")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras_bert_app as kba
    from keras_bert_app.runtimes import FORMATS

    examples = list(kba.read_labelled(args.test))
    examples = examples[:: max(len(examples) // args.number, 1)][: args.number]
    model = kba.load(args.run)
    size = 4 * model.model.count_params()
    print("| format | precision | MB | accuracy | largest difference | texts/s |\n|---|---|---|---|---|---|")
    texts = [text for text, _ in examples]
    row("Keras", "float32", size, size, model, examples, None, texts[: args.speed], args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            for quantize in QUANTIZED:
                path = kba.export(model, Path(folder) / f"{name}-{quantize}", name, quantize)
                check = json.loads((path / "config.json").read_text())["check"]
                row(
                    name, quantize or "float32", check["bytes"], size, kba.load(path), examples,
                    check["difference"], texts[: args.speed], args.repeats,
                )  # fmt: skip


def row(name, precision, size, whole, model, examples, difference, texts, repeats):
    """Prints a line of the table."""
    accuracy = model.evaluate(examples)["accuracy"]
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        model(texts)
        seconds.append(time.perf_counter() - start)
    speed = len(texts) / statistics.median(seconds)
    shown = "" if difference is None else f"{difference:.1g}"
    share = f"{size / 1e6:.1f} ({size / whole:.0%})"
    print(f"| {name} | {precision} | {share} | {accuracy:.4f} | {shown} | {speed:.0f} |", flush=True)


if __name__ == "__main__":
    main()
