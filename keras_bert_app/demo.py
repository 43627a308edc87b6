"""The main job from start to end on the sample reviews: fine-tune, evaluate, export, answer."""

from pathlib import Path

import keras_bert_app as kba
from keras_bert_app.bundled import DEFAULT
from keras_bert_app.data.readers import check_text
from keras_bert_app.progress import say

HELD_OUT = 40  # training reviews by which the best epoch is chosen


def demo(review, output, saved_models):
    """Fine-tunes the bundled BERT on the bundled reviews, exports it and asks it about `review`.

    Args:
        review: the text to be classified.
        output: the run folder; if it exists, the next free name with a number.
        saved_models: folder to which the model is exported, as `demo/<version>`.

    Returns:
        dict: `accuracy` on the held-out reviews, `run` and `exported`, the folders, and
        `answer`, what the exported model says of `review`.
    """
    import tensorflow as tf

    check_text(review, "the review")
    run = free_name(Path(output))
    train, test = kba.load_sample()
    say(
        f"Fine-tuning {DEFAULT}, the BERT that comes with the package, on {len(train)} short reviews that\n"
        f"come with it too; {HELD_OUT} of them choose the best epoch."
    )
    model = kba.finetune(
        "text-classification",
        train[HELD_OUT:],
        train[:HELD_OUT],
        output=run,
        epochs=6,
        batch_size=16,
        learning_rate=5e-4,
    )
    report = model.evaluate(test)
    exported = kba.export(model, Path(saved_models) / "demo")
    served = tf.saved_model.load(str(exported)).signatures["serving_default"](text=tf.constant([review]))
    answer = {"label": served["label"].numpy()[0].decode(), "score": float(served["score"].numpy()[0])}
    return {
        "accuracy": report["accuracy"],
        "test": len(test),
        "run": run,
        "exported": exported,
        "answer": answer,
    }


def free_name(path):
    """`path`, or with the first number from 2 that makes it a name not taken yet."""
    names = [path, *(path.with_name(f"{path.name}-{number}") for number in range(2, 10_000))]
    return next(name for name in names if not name.exists())
