"""Speed of tokenization, beside Hugging Face's tokenizers and KerasHub, on the same texts.

    python benchmarks/tokenization.py --data aclImdb/test --vocabulary vocab.txt

Every row is the same work, texts to word piece ids of an uncased vocabulary, in MB of UTF-8 a
second: the median of several rounds, in which all take turns. `tf.data` is batches of 256 texts,
tokenized on all cores; Hugging Face's batch mode uses all cores as well. The last column is the share
of texts whose ids are not those of Hugging Face's tokenizer.
"""

import argparse
import json
import os
import statistics
import time

import tensorflow as tf

import keras_bert_app as kba

BATCH = 256


def main():
    """Times all, prints a table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="labelled texts, as `kba.read_labelled` takes them")
    parser.add_argument("--vocabulary", required=True, help="vocab.txt of an uncased BERT")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts", type=int, help="use so many texts; by default all")
    args = parser.parse_args()
    texts = [text for text, _ in kba.read_labelled(args.data)][: args.texts]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    programs = programs_of(args.vocabulary, texts)
    seconds = {name: [] for name in programs}
    for number in range(args.rounds + 1):
        for name, (run, _) in programs.items():
            start = time.perf_counter()
            run()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    expected = programs["Hugging Face tokenizers, batch"][1]()
    rows = []
    for name, (_, ids) in programs.items():
        different = sum(a != b for a, b in zip(ids(), expected, strict=True)) / len(texts) if ids else None
        speed = megabytes / statistics.median(seconds[name])
        rows.append({"name": name, "megabytes_per_second": speed, "different": different})
        share = "" if different is None else f"{100 * different:9.2f} %"
        print(f"{name:52}{speed:8.1f} MB/s {share}")
    print(json.dumps({"texts": len(texts), "megabytes": megabytes, "rounds": args.rounds, "rows": rows}))


def programs_of(vocabulary, texts):
    """`{name: (function to be timed, function that gives the ids)}`."""
    import tensorflow_text as tf_text
    from keras_hub.tokenizers import BertTokenizer as KerasHubTokenizer
    from tokenizers import BertWordPieceTokenizer

    tokens = list(kba.BertTokenizer(vocabulary).vocabulary)
    ours = kba.BertTokenizer(vocabulary)
    fast = tf_text.FastBertTokenizer(tokens, token_out_type=tf.int32, lower_case_nfd_strip_accents=True)
    keras_hub = KerasHubTokenizer(vocabulary=tokens, lowercase=True)
    rust = BertWordPieceTokenizer(vocabulary, lowercase=True)
    rust._tokenizer.encode_special_tokens = True
    tensor = tf.constant(texts)
    batches = tf.data.Dataset.from_tensor_slices(tensor).batch(BATCH)

    # With tf.data's tuning the end of a pass waits for the tuner, for up to as long as the pass took.
    options = tf.data.Options()
    options.autotune.enabled = False

    def in_tf_data(function):
        dataset = batches.map(function, num_parallel_calls=os.cpu_count(), deterministic=True)
        dataset = dataset.prefetch(2).with_options(options)

        def run():
            for _ in dataset:
                pass

        def ids():
            found = (batch["ids"] if isinstance(batch, dict) else batch for batch in dataset)
            return [row for batch in found for row in batch.to_list()]

        return run, ids

    def rust_ids():
        return [encoded.ids for encoded in rust.encode_batch(texts, add_special_tokens=False)]

    return {
        "keras_bert_app, tf.data": in_tf_data(ours),
        "keras_bert_app with offsets, tf.data": in_tf_data(lambda batch: ours(batch, return_offsets=True)),
        "keras_bert_app, one call": (lambda: ours(tensor), None),
        "tensorflow-text FastBertTokenizer, tf.data": in_tf_data(fast.tokenize),
        "KerasHub BertTokenizer, tf.data": in_tf_data(keras_hub),
        "Hugging Face tokenizers, batch": (
            lambda: rust.encode_batch(texts, add_special_tokens=False),
            rust_ids,
        ),
    }


if __name__ == "__main__":
    main()
