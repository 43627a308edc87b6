"""Accuracy, speed and memory of fine-tuning on the Large Movie Review Dataset.

Beside it stands TF-IDF with logistic regression on the same reviews, which is what a
classifier must beat to be worth its time; and, with --untrained, the same encoder from random weights,
which pretraining must beat.

    pip install ".[bench]"
    python benchmarks/movie_reviews.py --output runs/default --untrained --learning-rate 2e-4 --epochs 3 \\
        --truncation head_tail
    python benchmarks/movie_reviews.py --model all-MiniLM-L6-v2 --output runs/imdb
    python benchmarks/movie_reviews.py --model all-MiniLM-L6-v2 --output runs/imdb5k \\
        --size 5000 --sequence-length 128 --epochs 3

The dataset is downloaded, or read from `--train` and `--test`.
"""

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np

import keras_bert_app as kba


def main():
    """Trains both, evaluates both, prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="bert_mini_reviews", help="handle of the pretrained BERT")
    parser.add_argument("--output", required=True, type=Path, help="start of the run folders' names")
    parser.add_argument("--train", help="file of the training reviews; by default the dataset is downloaded")
    parser.add_argument("--test", help="file of the test reviews")
    parser.add_argument("--size", type=int, help="reviews drawn for training, and as many for testing")
    parser.add_argument(
        "--untrained", action="store_true", help="also from random weights, with the same options"
    )
    parser.add_argument("--sequence-length", type=int, default=256)
    parser.add_argument("--truncation", default="longest_first", help="see BertPreprocessor")
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
    result = {"train": len(train), "test": len(test)}
    for name in ("pretrained", "untrained")[: 1 + args.untrained]:
        result[name] = bert(args, train, test, name)
        print(json.dumps({name: result[name]["accuracy"]}), flush=True)
    for name, words in (("tfidf_words", 1), ("tfidf_word_pairs", 2)):  # last: their memory is not counted
        result[name] = tfidf(train, test, words)
    print(json.dumps(result))


def tfidf(train, test, words):
    """TF-IDF of words, or of words and word pairs, with logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    start = time.monotonic()
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, words), min_df=2, sublinear_tf=True),
        LogisticRegression(C=10, max_iter=1000),
    )
    model.fit(*zip(*train, strict=True))
    accuracy = model.score(*zip(*test, strict=True))
    return {"accuracy": accuracy, "seconds": time.monotonic() - start}


def bert(args, train, test, name):
    """`kba.finetune`, then `evaluate` on the test reviews."""
    output = args.output.with_name(f"{args.output.name}-{name}")
    preprocessor, encoder = kba.from_pretrained(args.model, args.sequence_length, args.precision)
    if name == "untrained":
        keras.utils.set_random_seed(args.seed)
        encoder = kba.bert_encoder(kba.open_checkpoint(args.model).config, args.precision)
    model = kba.finetune(
        "text-classification",
        train,
        model=(preprocessor.replace(truncation=args.truncation), encoder),
        output=output,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        seed=args.seed,
    )
    start = time.monotonic()
    report = model.evaluate(test)
    seconds = time.monotonic() - start
    return {
        "accuracy": report["accuracy"],
        "history": json.loads((output / "history.json").read_text()),
        "evaluation_examples_per_second": len(test) / seconds,
        "peak_memory_mib": json.loads((output / "config.json").read_text())["peak_memory_mib"],
    }


if __name__ == "__main__":
    main()
