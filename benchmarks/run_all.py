"""All benchmarks, one after the other: tables as Markdown, and as JSON the figures of those that print it.

    pip install ".[bench,onnx,litert,openvino]"
    python benchmarks/run_all.py DATA --model all-MiniLM-L6-v2 --output results

DATA holds `imdb/train.jsonl.gz` and `imdb/test.jsonl.gz`, with the columns text and label, `glue/`, `squad/`
and `wnut17/` in the files in which they are published. It takes many hours. What is done is not done again:
`--output` holds what each has printed, and `results.md` and `results.json` of all that are there.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from speed import machine

REVIEWS = ("{data}/imdb/train.jsonl.gz", "{data}/imdb/test.jsonl.gz")
SENTENCES = ("{data}/glue/SST-2/train.tsv.gz", "{data}/glue/SST-2/dev.tsv.gz")
COMMANDS = {
    "training, BERT-base": ("speed.py", "training", "--size", "base", "--rounds", "7"),
    "training, bert_mini_reviews": ("speed.py", "training"),
    "rematerialization": (
        "speed.py", "training", "--size", "base", "--length", "512", "--rounds", "3",
        "--sides", "keras_bert_app", "rematerialized",
    ),
    "fine-tuning, reviews": (
        "finetuning.py", *REVIEWS, "--model", "{model}", "--length", "256", "--number", "1600",
        "--test-number", "1000", "--learning-rate", "5e-5",
    ),
    "fine-tuning, sentences": (
        "finetuning.py", *SENTENCES, "--model", "{model}", "--text", "sentence", "--number", "10000",
    ),
    "inference, reviews": (
        "speed.py", "inference", "--texts", REVIEWS[1], "--number", "300", "--rounds", "5",
    ),
    "inference, sentences": (
        "speed.py", "inference", "--texts", SENTENCES[1], "--column", "sentence", "--rounds", "5",
    ),
    "inference, reviews, BERT-base": (
        "speed.py", "inference", "--texts", REVIEWS[1], "--number", "64", "--size", "base", "--rounds", "5",
    ),
    "inference, sentences, BERT-base": (
        "speed.py", "inference", "--texts", SENTENCES[1], "--column", "sentence", "--number", "200",
        "--size", "base", "--rounds", "5",
    ),
    "growth": ("growth.py", "--output", "{output}/growth.png"),
    "prediction": ("prediction.py", REVIEWS[1]),
    "tokenization": ("tokenization.py", "--data", REVIEWS[1], "--vocabulary", "{model}/vocab.txt"),
    "pretraining": ("pretraining.py", REVIEWS[0], "--steps", "16"),
    "loading": ("loading.py",),
    "serving": ("serving.py", REVIEWS[1]),
    "serving, short texts": ("serving.py", REVIEWS[1], "--longest", "340"),
    "movie reviews": (
        "movie_reviews.py", "--train", REVIEWS[0], "--test", REVIEWS[1], "--output", "{output}/imdb",
        "--learning-rate", "2e-4", "--epochs", "3", "--truncation", "head_tail",
    ),
    "formats": ("formats.py", "{output}/imdb-pretrained", REVIEWS[1]),
    "quality": ("quality.py", "{data}", "--model", "{model}", "--results", "{output}/quality.jsonl"),
}  # fmt: skip


def main():
    """Runs what has not been run, and writes all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--model", required=True, help="folder of a Hugging Face BERT")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS), metavar="NAME")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in args.only:
        path = args.output / f"{name}.txt"
        if path.exists():
            continue
        print(name, flush=True)
        script, *options = (part.format(**vars(args)) for part in COMMANDS[name])
        command = [sys.executable, str(Path(__file__).with_name(script)), *options]
        with (args.output / "errors.log").open("a") as errors:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        if done.returncode:
            failed.append(name)
        else:
            path.write_text(done.stdout)
            write(args.output)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see {args.output / 'errors.log'}")


def write(folder):
    """`results.md` and `results.json` of what has been run."""
    printed = {name: path.read_text() for name in COMMANDS if (path := folder / f"{name}.txt").exists()}
    here = machine()
    parts = [f"# Results\n\n{here['processor']}, {here['cores']} cores.\n"]
    figures = {}
    for name, text in printed.items():
        lines = text.splitlines()
        found = [line for line in lines if line.startswith("{") and line.endswith("}")]
        figures[name] = json.loads(found[-1]) if found else None
        plain = [line for line in lines if not line.startswith("{")]
        shown = [line for line in lines if line.startswith("|")] or ["```", *plain, "```"]
        command = " ".join(COMMANDS[name]).format(data="DATA", model="MODEL", output="OUTPUT")
        parts.append(f"## {name}\n\n`python benchmarks/{command}`\n\n" + "\n".join(shown) + "\n")
    (folder / "results.md").write_text("\n".join(parts))
    (folder / "results.json").write_text(json.dumps({"machine": here, "results": figures}, indent=1))


if __name__ == "__main__":
    main()
