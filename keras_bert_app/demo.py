"""The main job from start to end on the sample reviews: fine-tune, evaluate, export, answer."""

from importlib import resources
from pathlib import Path

import keras_bert_app as kba
from keras_bert_app.data.readers import check_text
from keras_bert_app.progress import say

HELD_OUT = 40  # training reviews by which the best epoch is chosen


def demo(review, output, saved_models):
    """Fine-tunes a small fresh BERT on the bundled reviews, exports it and asks it about `review`.

    Args:
        review: the text to be classified.
        output: the run folder; if it exists, the next free name with a number.
        saved_models: folder to which the model is exported, as `demo/<version>`.

    Returns:
        dict: `accuracy` on the held-out reviews, `run` and `exported`, the folders, and
        `answer`, what the exported model says of `review`.
    """
    import keras
    import tensorflow as tf

    check_text(review, "the review")
    run = free_name(Path(output))
    train, test = kba.load_sample()
    say(
        f"Fine-tuning on {len(train)} short reviews that come with the package; {HELD_OUT} of them choose\n"
        "the best epoch. There is no pretrained model in the package yet: this one starts from random\n"
        "weights and shows the way, not the quality. For that: keras-bert finetune --help"
    )
    tokenizer = kba.BertTokenizer(resources.files("keras_bert_app") / "data" / "sample" / "vocab.txt")
    keras.utils.set_random_seed(0)  # for the fresh encoder; `finetune` seeds the rest
    encoder = kba.bert_encoder(
        kba.BertConfig(
            vocab_size=tokenizer.vocabulary_size,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=128,
        )
    )
    model = kba.finetune(
        "text-classification",
        train[HELD_OUT:],
        train[:HELD_OUT],
        model=(kba.BertPreprocessor(tokenizer, sequence_length=128), encoder),
        output=run,
        epochs=12,
        batch_size=16,
        learning_rate=1e-3,
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
