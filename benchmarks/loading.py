"""Time and memory of loading a BERT of base size from each format.

    python benchmarks/loading.py [--folder FOLDER]

Writes the weights of a BERT-base, random ones (438 MB), in every format, then loads each in processes of
its own, with the files in the page cache: the seconds of `from_pretrained` alone, the imports
done before, and the peak of the process above what it is with the same encoder built and filled without a
file. Medians, on Linux. As peers, in the same rounds, where they are installed: Hugging Face Transformers
and KerasHub.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import keras_bert_app as kba

LOAD = """
import os, sys, time, warnings
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
warnings.simplefilter("ignore")
what, path = sys.argv[1:]
def peak():
    with open("/proc/self/status") as file:  # of Linux; `resource` would count the process that started it
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
if what == "Transformers":
    import torch, transformers
    load = lambda: transformers.BertModel.from_pretrained(path)
elif what == "KerasHub":
    import keras_hub
    load = lambda: keras_hub.models.BertBackbone.from_preset(path)
else:
    import tensorflow, tensorflow_text, keras, safetensors, h5py
    if "torch" in what:
        import torch
    import keras_bert_app as kba
    kba.from_pretrained, kba.bert_encoder, kba.BertPreprocessor  # modules are loaded by their first use
    load = lambda: kba.from_pretrained(path)
    if what.startswith("no file"):
        load = lambda: kba.bert_encoder(kba.BertConfig(30522))
start = time.perf_counter()
model = load()
print(time.perf_counter() - start, peak())
"""
NO_FILE = "no file: fresh weights"
TORCH = ", torch imported"


def main():
    """Measures all, prints a table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the files are written to, 2.5 GB; not removed")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        paths = write_all(args.folder or Path(temporary))
        rows = measure(paths, args.rounds)
    print(f"{'':40}{'seconds':>9}{'peak, MiB':>11}{'above the model, MiB':>22}{'of the file':>13}")
    for row in rows:
        above = "" if row["above"] is None else f"{row['above'] / 2**20:22.0f}{row['share']:13.2f}"
        print(f"{row['name']:40}{row['seconds']:9.2f}{row['peak'] / 2**20:11.0f}{above}")
    print(json.dumps({"rounds": args.rounds, "rows": rows}))


def write_all(folder):
    """Dict from the name of each format to the path of a BERT-base in it."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(30_517))]
    config = kba.BertConfig(len(tokens), hidden_act="gelu_new")
    preprocessor = kba.BertPreprocessor(kba.BertTokenizer(tokens))
    paths = {}
    for format in ("huggingface", "tfhub", "keras_hub", "google"):
        paths[format] = folder / format
        if not paths[format].exists():
            kba.save_checkpoint(kba.bert_encoder(config), folder / format, format, preprocessor)
    paths["pytorch_model.bin" + TORCH] = folder / "bin"
    if not (folder / "bin").exists():
        import shutil

        import torch
        from safetensors.torch import load_file

        shutil.copytree(folder / "huggingface", folder / "bin")
        torch.save(load_file(folder / "bin" / "model.safetensors"), folder / "bin" / "pytorch_model.bin")
        (folder / "bin" / "model.safetensors").unlink()
    return paths


def measure(paths, rounds):
    """A row for each format, and for what there is of its peers."""
    jobs = {NO_FILE: "", NO_FILE + TORCH: ""} | paths
    for peer, package, format in (
        ("Transformers", "transformers", "huggingface"),
        ("KerasHub", "keras_hub", "keras_hub"),
    ):
        if subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True).returncode == 0:
            jobs[peer] = paths[format]
    found = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, path in jobs.items():
            done = subprocess.run(
                [sys.executable, "-c", LOAD, name, str(path)], capture_output=True, text=True, check=True
            )
            found[name].append([float(number) for number in done.stdout.split()])
    medians = {
        name: [statistics.median(column) for column in zip(*runs, strict=True)]
        for name, runs in found.items()
    }
    rows = []
    for name, (seconds, peak) in medians.items():
        row = {"name": name, "seconds": seconds, "peak": peak, "above": None, "share": None}
        if name in paths:
            size = sum(path.stat().st_size for path in Path(paths[name]).rglob("*") if path.is_file())
            row["above"] = peak - medians[NO_FILE + TORCH if name.endswith(TORCH) else NO_FILE][1]
            row["share"] = row["above"] / size
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
