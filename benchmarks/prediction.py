"""Speed of prediction for every task, from texts to answers, beside the pipelines of Transformers.

    pip install ".[bench]"
    python benchmarks/prediction.py TEXTS.jsonl.gz

Both have the same weights: the BERT that comes with the package, with a head whose weights are random, saved
as a Hugging Face folder. Both get the same sentences, which are cut out of TEXTS, in the same order, in
float32 with batches of 32, in one process with all cores, and give answers for a person: labels, entities,
spans, guesses. Ours is `kba.load(folder)(inputs)`; Transformers' is `pipeline(task, batch_size=32)`, for the
tasks without a pipeline a loop over batches of its tokenizer and model. The sides take turns, after a call
that is not counted, and the median of the rounds is shown.
"""

import argparse
import itertools
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path

SIDES = ("keras_bert_app", "Transformers")
BATCH_SIZE = 32
WARM = 512  # inputs before the time is taken, of all lengths


def main():
    """Measures every task and prints a table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("texts", help="file of texts, as `kba.embed` takes it on the command line")
    parser.add_argument("--number", type=int, default=10_000, help="sentences")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sentences = read(args.texts, args.number)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for task in args.tasks:
            inputs, ours, theirs = TASKS[task](Path(folder) / task, sentences)
            sides = dict(zip(SIDES, (ours, theirs), strict=True))
            for ask in sides.values():
                ask(inputs[:: max(len(inputs) // WARM, 1)])
            seconds = {side: [] for side in SIDES}
            for number in range(args.repeats):
                for side in SIDES[:: 1 if number % 2 == 0 else -1]:
                    start = time.perf_counter()
                    sides[side](inputs)
                    seconds[side].append(time.perf_counter() - start)
            rows[task] = {side: len(inputs) / statistics.median(found) for side, found in seconds.items()}
            print(task, {side: round(speed) for side, speed in rows[task].items()}, flush=True)
    print("| task | keras_bert_app, inputs/s | Transformers, inputs/s | ratio |")
    print("|---|---|---|---|")
    for task, found in rows.items():
        ours, theirs = found.values()
        print(f"| {task} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |")
    print(json.dumps({"number": args.number, "repeats": args.repeats, "rows": rows}))


def read(path, number):
    """Sentences of a file: what ends in a full stop, of at least three words."""
    from keras_bert_app.data.readers import read_texts

    sentences = []
    for text in read_texts(path):
        parts = re.split(r"(?<=[.!?])\s+", re.sub(r"<br />", " ", text))
        sentences += [part for part in parts if 3 <= len(part.split()) <= 100]
        if len(sentences) >= number:
            return sentences[:number]
    raise ValueError(f"{path} has {len(sentences)} sentences, {number} are wanted")


def save(folder, build=None, labels=None):
    """Writes the bundled BERT with a head as a Hugging Face folder; returns the preprocessor."""
    import keras_bert_app as kba

    if build is None:
        preprocessor, model = kba.from_pretrained(head="pretrainer")
    else:
        preprocessor, encoder = kba.from_pretrained()
        model = build(encoder)
    kba.save_checkpoint(model, folder, preprocessor=preprocessor, labels=labels)


def pipeline(task, folder, **options):
    """A pipeline of Transformers."""
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers.pipeline(task, str(folder), batch_size=BATCH_SIZE, device="cpu", **options)


def text_classification(folder, sentences):
    """A label for each sentence."""
    import keras_bert_app as kba

    save(folder, lambda encoder: kba.text_classifier(encoder, 2), ["bad", "good"])
    theirs = pipeline("text-classification", folder)
    return sentences, kba.load(folder), lambda texts: theirs(texts, truncation=True)


def token_classification(folder, sentences):
    """The entities of each sentence."""
    import keras_bert_app as kba

    labels = ["O", "B-person", "I-person"]
    save(folder, lambda encoder: kba.token_classifier(encoder, 3), labels)
    return sentences, kba.load(folder), pipeline("token-classification", folder, aggregation_strategy="first")


def question_answering(folder, sentences):
    """The span of a sentence that answers the one before it."""
    import keras_bert_app as kba

    save(folder, kba.span_classifier)
    pairs = list(itertools.pairwise(sentences))
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()

    def theirs(given):  # Transformers 5 has no pipeline for it
        answers = []
        for start in range(0, len(given), BATCH_SIZE):
            some = given[start : start + BATCH_SIZE]
            encoded = tokenizer(
                *map(list, zip(*some, strict=True)), truncation="only_second", padding=True,
                max_length=512, return_tensors="pt", return_offsets_mapping=True,
            )  # fmt: skip
            offsets = encoded.pop("offset_mapping").tolist()
            with torch.inference_mode():
                output = model(**encoded)
            spans = output.start_logits.argmax(1).tolist(), output.end_logits.argmax(1).tolist()
            for row, (first, last) in enumerate(zip(*spans, strict=True)):
                answers.append(some[row][1][offsets[row][first][0] : offsets[row][last][1]])
        return answers

    return pairs, kba.load(folder), theirs


def sentence_similarity(folder, sentences):
    """The vector of each sentence."""
    import torch
    import transformers

    import keras_bert_app as kba

    save(folder, lambda encoder: encoder)
    model = kba.load(folder, task="sentence-similarity")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encoder = transformers.AutoModel.from_pretrained(folder).eval()

    def theirs(texts):  # as sentence-transformers does it: sorted by length
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        found = [None] * len(texts)
        for start in range(0, len(texts), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            some = [texts[row] for row in rows]
            encoded = tokenizer(some, truncation=True, padding=True, max_length=512, return_tensors="pt")
            with torch.inference_mode():
                states = encoder(**encoded).last_hidden_state
            mask = encoded["attention_mask"][..., None]
            pooled = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))
            for row, vector in zip(rows, pooled.numpy(), strict=True):
                found[row] = vector
        return found

    return sentences, lambda texts: kba.embed(texts, model), theirs


def fill_mask(folder, sentences):
    """Five guesses for a word of each sentence."""
    import keras_bert_app as kba

    save(folder)
    texts = [re.sub(r"\S+", "[MASK]", sentence, count=1) for sentence in sentences]
    texts = [text if text.count("[MASK]") == 1 else "A [MASK] film." for text in texts]
    return texts, kba.load(folder, task="fill-mask"), pipeline("fill-mask", folder)


def multiple_choice(folder, sentences):
    """Which of the two sentences after a sentence goes on from it."""
    import transformers

    import keras_bert_app as kba

    save(folder, lambda encoder: kba.text_classifier(encoder, 1))
    model = transformers.AutoModelForMultipleChoice.from_pretrained(folder).eval()
    inputs = [(a, [b, c]) for a, b, c in zip(sentences, sentences[1:], sentences[2:], strict=False)]

    def rows_of(some):
        return [text for text, _ in some for _ in range(2)], [choice for _, both in some for choice in both]

    def theirs(given):
        logits = forward(folder, model, rows_of, given, lambda rows: rows.unflatten(0, (-1, 2)))
        return [both[index] for (_, both), index in zip(given, logits.argmax(1).tolist(), strict=True)]

    return inputs, kba.load(folder, task="multiple-choice"), theirs


def next_sentence(folder, sentences):
    """Whether a sentence follows the one before it."""
    import transformers

    import keras_bert_app as kba

    save(folder)
    model = transformers.AutoModelForNextSentencePrediction.from_pretrained(folder).eval()

    def rows_of(some):
        return map(list, zip(*some, strict=True))

    def theirs(given):
        return forward(folder, model, rows_of, given).softmax(1)[:, 0].tolist()

    return list(itertools.pairwise(sentences)), kba.load(folder, task="next-sentence"), theirs


def forward(folder, model, rows_of, given, shaped=lambda rows: rows):
    """The logits of a model of Transformers for all inputs, in batches; `rows_of` makes two lists of texts,
    and `shaped` the inputs of the model of what the tokenizer makes of these."""
    import torch
    import transformers

    tokenizer, found = transformers.AutoTokenizer.from_pretrained(folder), []
    for start in range(0, len(given), BATCH_SIZE):
        texts = rows_of(given[start : start + BATCH_SIZE])
        encoded = tokenizer(*texts, truncation=True, padding=True, max_length=512, return_tensors="pt")
        with torch.inference_mode():
            found.append(model(**{name: shaped(rows) for name, rows in encoded.items()}).logits)
    return torch.cat(found)


TASKS = {
    "text-classification": text_classification,
    "token-classification": token_classification,
    "question-answering": question_answering,
    "sentence-similarity": sentence_similarity,
    "multiple-choice": multiple_choice,
    "fill-mask": fill_mask,
    "next-sentence": next_sentence,
}


if __name__ == "__main__":
    main()
