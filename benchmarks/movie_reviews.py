"""Accuracy, speed and memory of fine-tuning on the Large Movie Review Dataset.

Beside it stands TF-IDF with logistic regression on the same reviews, which is what a
classifier must beat to be worth its time.

    pip install ".[benchmarks]"
    python benchmarks/movie_reviews.py --model all-MiniLM-L6-v2 --output runs/imdb
    python benchmarks/movie_reviews.py --model all-MiniLM-L6-v2 --output runs/imdb5k \\
        --size 5000 --sequence-length 128 --epochs 3

The dataset is downloaded, or read from `--train` and `--test`.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import keras_bert_app as kba


def main():
    """Trains both, evaluates both, prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, help="handle of the pretrained BERT")
    parser.add_argument("--output", required=True, type=Path, help="run folder")
    parser.add_argument("--train", help="file of the training reviews; by default the dataset is downloaded")
    parser.add_argument("--test", help="file of the test reviews")
    parser.add_argument("--size", type=int, help="reviews drawn for training, and as many for testing")
    parser.add_argument("--sequence-length", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.train:
        train, test = kba.read_labelled(args.train), kba.read_labelled(args.test)
    else:
        train, test = kba.load_imdb()
    if args.size:
        random = np.random.default_rng(args.seed)
        train, test = (
            [rows[i] for i in random.permutation(len(rows))[: args.size]] for rows in (train, test)
        )
    result = {"train": len(train), "test": len(test), "bert": bert(args, train, test)}
    result["tfidf"] = tfidf(train, test)  # last, so that its memory is not counted
    print(json.dumps(result, indent=2))


def tfidf(train, test):
    """TF-IDF of words and word pairs with logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    start = time.monotonic()
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
        LogisticRegression(C=10, max_iter=1000),
    )
    model.fit(*zip(*train, strict=True))
    accuracy = model.score(*zip(*test, strict=True))
    return {"accuracy": accuracy, "seconds": time.monotonic() - start}


def bert(args, train, test):
    """`kba.finetune`, then `evaluate` on the test reviews."""
    model = kba.finetune(
        "text-classification",
        train,
        model=args.model,
        output=args.output,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        sequence_length=args.sequence_length,
        precision=args.precision,
        seed=args.seed,
    )
    start = time.monotonic()
    report = model.evaluate(test)
    seconds = time.monotonic() - start
    return {
        "accuracy": report["accuracy"],
        "history": json.loads((args.output / "history.json").read_text()),
        "evaluation_examples_per_second": len(test) / seconds,
        "peak_memory_mib": json.loads((args.output / "config.json").read_text())["peak_memory_mib"],
    }


if __name__ == "__main__":
    main()
