"""Speed of training steps, and of inference from texts, beside KerasHub, Transformers and other runtimes.

    pip install ".[bench,onnx,litert,openvino]"
    python benchmarks/speed.py training --size base
    python benchmarks/speed.py training
    python benchmarks/speed.py training --size base --length 512 --sides keras_bert_app rematerialized
    python benchmarks/speed.py inference --texts TEXTS.jsonl.gz
    python benchmarks/speed.py inference --texts TEXTS.jsonl.gz --size base --number 200
    python benchmarks/speed.py inference --texts SST-2/dev.tsv.gz --column sentence

The size is that of the BERT that comes with the package, or of BERT-base.

training: a step of a classifier with random weights on 16 rows of 128 random word pieces without padding,
dropout 0.1, AdamW, gradients clipped to a norm of 1; in bfloat16 as each does it (`mixed_bfloat16`,
`torch.autocast`) and in float32. "rematerialized" is ours with `rematerialize=True`. The share is that of the
speed at which the machine multiplies matrices of 2048 x 768 by 768 x 3072, measured beside it; a step counts
as three forward passes.

inference: the class of each text, at most 256 word pieces. All have the same weights, the BERT that comes
with the package or a BERT-base. All read the texts sorted by length in batches of 32 and pad a batch to its
longest row, but KerasHub, which pads to the sequence length. Ours is the exported SavedModel, which takes
strings; Transformers' is its tokenizer and its model; ONNX Runtime's the same tokenizer and our export;
OpenVINO's the same tokenizer and its conversion of the model of Transformers. In int8 ours are the exports to
OpenVINO and to LiteRT, and the others are what `torch.ao.quantization.quantize_dynamic`,
`onnxruntime.quantization.quantize_dynamic` and `nncf.quantize` make of theirs.

Transformers has its own attention, "eager", beside its default, that of PyTorch: on a CPU now the one, now
the other is faster.

Each side is a process of its own. They take turns, a step or all texts at a time, and the medians over the
rounds are shown, also of the speed as a share of ours in the same round, and the highest memory.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

BATCH_SIZE = 32
PAUSE = 0.2  # seconds between two measurements: threads of the last one may still wait for work
PRODUCTS = 20  # in a round
WARM_UP = 3
ROWS = 16
AGAIN = "rematerialized"
LONGEST = 256
PRECISIONS = ("bfloat16", "float32")
EXAMPLES = ["one of the best films of the year .", "two hours that i will not get back ."]


def main():
    """Measures and prints a table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=["training", "inference"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--texts", type=Path, help="file of texts, as `kba.embed` takes it")
    parser.add_argument("--column", default="text", help="of the texts in it")
    parser.add_argument("--number", type=int, default=1000, help="texts")
    parser.add_argument("--size", choices=["bundled", "base"], default="bundled")
    parser.add_argument("--length", type=int, default=128, help="word pieces of a row in training")
    parser.add_argument(
        "--sides", nargs="+", choices=[*TRAINING, *INFERENCE], metavar="SIDE",
        help="of training or inference, keras_bert_app among them; all are in memory at once",
    )  # fmt: skip
    args = parser.parse_args()
    args.sides = args.sides or [
        side for side in (TRAINING if args.kind == "training" else INFERENCE) if side != AGAIN
    ]
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        if args.kind == "training":
            for precision in PRECISIONS:
                sides = {
                    f"{side}, {precision}": functools.partial(
                        TRAINING[side], args.size, precision, args.length
                    )
                    for side in args.sides
                }
                sides[f"product, {precision}"] = functools.partial(multiply, precision)
                found |= in_turns(sides, args.rounds)
        else:
            if not args.texts:
                parser.error("inference needs --texts")
            texts = read(args.texts, args.column, args.number)
            in_process(write_models, args.size, folder)
            asking = {side: functools.partial(ask_all, INFERENCE[side], folder, texts) for side in args.sides}
            found |= in_turns(asking, args.rounds)
    print_table(found, in_process(work, args.size, args.length) if args.kind == "training" else None)
    print(json.dumps({**vars(args), "texts": str(args.texts), "machine": machine(), "found": found}))


def in_turns(sides, rounds):
    """What each side does in a second, round by round: a machine is not equally fast all the time.

    Args:
        sides: dict from a name to a function that makes what is to be measured, in a process of its own: a
            function that returns of how many examples its time is.
        rounds: how often each is measured.

    Returns:
        dict from the names to lists of dicts, of one round each.
    """
    found = {side: [] for side in sides}
    with contextlib.ExitStack() as stack:
        pools = {
            side: stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
            for side in sides
        }
        for side, make in sides.items():
            pools[side].submit(prepare, make).result()
        for _ in range(rounds):
            for side, pool in pools.items():
                found[side].append(pool.submit(measure).result())
                print(side, found[side][-1], flush=True)
                time.sleep(PAUSE)
    return found


def prepare(make):
    """Makes what this process measures, and warms it up."""
    global run
    run = make()
    for _ in range(WARM_UP):
        run()


def measure():
    """A row of the results."""
    start = time.perf_counter()
    number = run()
    return {"per_second": number / (time.perf_counter() - start), "peak_mib": peak_mib()}


def peak_mib():
    """The highest memory that this process had, in MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def in_process(function, *arguments):
    """What `function` returns in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def multiply(precision):
    """Products of matrices, in multiplications and additions."""
    import tensorflow as tf

    left, right = (tf.cast(tf.random.normal(shape), precision) for shape in ((2048, 768), (768, 3072)))
    product = tf.function(tf.matmul)

    def run():
        for _ in range(PRODUCTS):
            product(left, right)[0, 0].numpy()
        return PRODUCTS * 2 * 2048 * 768 * 3072

    return run


def config_of(size):
    """The `BertConfig` of a size."""
    import keras_bert_app as kba

    if size == "bundled":
        return kba.open_checkpoint("bert_mini_reviews").config
    return kba.BertConfig(
        vocab_size=30522,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
    )


def work(size, length):
    """Multiplications and additions of a training step for each example, as three forward passes."""
    config = config_of(size)
    hidden = config.hidden_size
    kernels = 4 * hidden**2 + 2 * hidden * config.intermediate_size
    return 3 * 2 * config.num_hidden_layers * length * (kernels + 2 * length * hidden)


def random_batch(config, length):
    """Word pieces and labels."""
    import numpy as np

    random = np.random.default_rng(0)
    ids = random.integers(5, config.vocab_size, (ROWS, length)).astype("int32")
    return ids, random.integers(0, 2, ROWS).astype("int32")


def train_keras(model, config, length, optimizer, names):
    """A step of a Keras model."""
    import keras
    import numpy as np

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    ids, labels = random_batch(config, length)
    batch = dict(zip(names, (ids, np.ones_like(ids), np.zeros_like(ids)), strict=True))

    def run():
        model.train_on_batch(batch, labels)
        return ROWS

    return run


def policy(precision):
    """The name of Keras for a precision."""
    return {"bfloat16": "mixed_bfloat16"}.get(precision, precision)


def train_ours(size, precision, length, rematerialize=False):
    """A step of this package."""
    import keras_bert_app as kba
    from keras_bert_app import optimization

    config = config_of(size)
    encoder = kba.bert_encoder(config, rematerialize=rematerialize, dtype=policy(precision))
    model = kba.text_classifier(encoder, 2)
    names = ("input_word_ids", "input_mask", "input_type_ids")
    return train_keras(model, config, length, optimization.adamw(1e-5, 1000), names)


def train_keras_hub(size, precision, length):
    """A step of KerasHub."""
    import keras
    import keras_hub

    config = config_of(size)
    backbone = keras_hub.models.BertBackbone(
        config.vocab_size, config.num_hidden_layers, config.num_attention_heads, config.hidden_size,
        config.intermediate_size, dropout=0.1, dtype=policy(precision),
    )  # fmt: skip
    model = keras_hub.models.BertTextClassifier(backbone, 2, preprocessor=None)
    optimizer = keras.optimizers.AdamW(1e-5, weight_decay=0.01, global_clipnorm=1.0)
    return train_keras(model, config, length, optimizer, ("token_ids", "padding_mask", "segment_ids"))


def train_transformers(attention, size, precision, length):
    """A step of Transformers with PyTorch and one of its implementations of attention."""
    import torch
    import transformers

    config = config_of(size)
    theirs = transformers.BertConfig(
        **dataclasses.asdict(config), num_labels=2, attn_implementation=attention
    )
    model = transformers.BertForSequenceClassification(theirs).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-5, weight_decay=0.01, fused=True)
    ids, labels = (torch.tensor(array).long() for array in random_batch(config, length))
    mask = torch.ones_like(ids)

    def run():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return ROWS

    return run


TRAINING = {
    "keras_bert_app": train_ours,
    AGAIN: functools.partial(train_ours, rematerialize=True),
    "KerasHub": train_keras_hub,
    "Transformers": functools.partial(train_transformers, "sdpa"),
    "Transformers eager": functools.partial(train_transformers, "eager"),
}


def read(path, column, number):
    """Texts from all over a file."""
    from keras_bert_app.data.readers import read_texts

    texts = list(read_texts(path, column))
    return texts[:: max(len(texts) // number, 1)][:number]


def write_models(size, folder):
    """The same classifier for every side."""
    import keras

    import keras_bert_app as kba
    from keras_bert_app.encoder import encoder_config
    from keras_bert_app.task_model import TaskModel

    keras.utils.set_random_seed(0)
    preprocessor, encoder = kba.from_pretrained(sequence_length=LONGEST)
    if size == "base":
        encoder = kba.bert_encoder(config_of(size))
    model = kba.text_classifier(encoder, 2)
    labels = ["negative", "positive"]
    kba.save_checkpoint(model, Path(folder) / "huggingface", preprocessor=preprocessor, labels=labels)
    kba.save_checkpoint(encoder, Path(folder) / "keras_hub", format="keras_hub", preprocessor=preprocessor)
    task = TaskModel("text-classification", preprocessor, model, {"labels": labels})
    kba.export(task, Path(folder) / "saved_model_float32")
    kba.export(task, Path(folder) / "onnx", format="onnx")
    kba.export(task, Path(folder) / "litert", format="litert", quantize="int8")
    data = [(text, labels[1]) for text in EXAMPLES]
    kba.export(task, Path(folder) / "openvino", format="openvino", quantize="int8", data=data)
    encoder = kba.bert_encoder(encoder_config(encoder), dtype="mixed_bfloat16")
    narrow = kba.text_classifier(encoder, 2)
    narrow.set_weights(model.get_weights())
    task = TaskModel("text-classification", preprocessor, narrow, {"labels": labels})
    kba.export(task, Path(folder) / "saved_model_bfloat16")


def ask_all(ask, folder, texts):
    """All texts, sorted by their length, in batches."""
    texts = sorted(texts, key=len)
    batches = [texts[start : start + BATCH_SIZE] for start in range(0, len(texts), BATCH_SIZE)]
    answer = ask(Path(folder))

    def run():
        for batch in batches:
            answer(batch)
        return len(texts)

    return run


def ask_saved_model(precision, folder):
    """The signature that takes strings."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers its operations

    loaded = tf.saved_model.load(folder / f"saved_model_{precision}" / "1")
    serve = loaded.signatures["serving_default"]
    return lambda texts: (loaded, serve(text=tf.constant(texts))["probabilities"].numpy())


def ask_export(format, folder):
    """The export to another runtime, with the tokenizer that comes with it."""
    import keras_bert_app as kba

    return kba.load(folder / format)


def ask_keras_hub(folder):
    """A classifier with its preprocessor."""
    import keras_hub

    preprocessor = keras_hub.models.BertTextClassifierPreprocessor.from_preset(
        str(folder / "keras_hub"), sequence_length=LONGEST
    )
    model = keras_hub.models.BertTextClassifier.from_preset(
        str(folder / "keras_hub"), num_classes=2, preprocessor=preprocessor
    )
    return lambda texts: model.predict(texts, batch_size=BATCH_SIZE, verbose=0)


def ask_transformers(precision, attention, folder):
    """Tokenizer and model, on PyTorch, with one of its implementations of attention."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "huggingface")
    kind, dtype = transformers.AutoModelForSequenceClassification, precision.replace("int8", "float32")
    model = kind.from_pretrained(
        folder / "huggingface", dtype=getattr(torch, dtype), attn_implementation=attention
    ).eval()
    if precision == "int8":
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)

    def answer(texts):
        encoded = tokenizer(texts, truncation=True, max_length=LONGEST, padding=True, return_tensors="pt")
        with torch.inference_mode():
            return model(**encoded).logits.float().softmax(-1).numpy()

    return answer


def ask_onnx_runtime(precision, folder):
    """The tokenizer of Transformers, and our export."""
    import numpy as np
    import onnxruntime
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "huggingface")
    path = folder / "onnx" / "1" / "model.onnx"
    if precision == "int8":
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(path, path := folder / "int8.onnx")
    session = onnxruntime.InferenceSession(path)
    names = {"input_ids": "word", "attention_mask": "mask", "token_type_ids": "type"}
    inputs = [value.name for value in session.get_inputs()]
    places = {theirs: next(name for name in inputs if part in name) for theirs, part in names.items()}

    def answer(texts):
        encoded = tokenizer(texts, truncation=True, max_length=LONGEST, padding=True, return_tensors="np")
        return session.run(None, {places[name]: encoded[name].astype(np.int32) for name in names})

    return answer


def ask_openvino(precision, folder):
    """Tokenizer and model of Transformers, the model converted; int8 as NNCF quantizes transformers."""
    import openvino
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "huggingface")
    encode = functools.partial(tokenizer, truncation=True, max_length=LONGEST, padding=True)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder / "huggingface", dtype="float32"
    ).eval()
    converted = openvino.convert_model(model, example_input=dict(encode(EXAMPLES, return_tensors="pt")))
    if precision == "int8":
        import nncf

        rows = [dict(encode([text], return_tensors="np")) for text in EXAMPLES]
        converted = nncf.quantize(converted, nncf.Dataset(rows), model_type=nncf.ModelType.TRANSFORMER)
    hints = {"float32": "f32", "bfloat16": "bf16"}  # of int8 its default, which is what the processor can do
    options = {"INFERENCE_PRECISION_HINT": hints[precision]} if precision in hints else {}
    compiled = openvino.Core().compile_model(converted, "CPU", options)
    return lambda texts: compiled(dict(encode(texts, return_tensors="np")))[0]


INFERENCE = {
    "keras_bert_app, float32": functools.partial(ask_saved_model, "float32"),
    "KerasHub, float32": ask_keras_hub,
    "Transformers, float32": functools.partial(ask_transformers, "float32", "sdpa"),
    "ONNX Runtime, float32": functools.partial(ask_onnx_runtime, "float32"),
    "OpenVINO, float32": functools.partial(ask_openvino, "float32"),
    "keras_bert_app, bfloat16": functools.partial(ask_saved_model, "bfloat16"),
    "Transformers, bfloat16": functools.partial(ask_transformers, "bfloat16", "sdpa"),
    "Transformers eager, bfloat16": functools.partial(ask_transformers, "bfloat16", "eager"),
    "OpenVINO, bfloat16": functools.partial(ask_openvino, "bfloat16"),
    "keras_bert_app, int8": functools.partial(ask_export, "openvino"),
    "keras_bert_app LiteRT, int8": functools.partial(ask_export, "litert"),
    "Transformers, int8": functools.partial(ask_transformers, "int8", "sdpa"),
    "ONNX Runtime, int8": functools.partial(ask_onnx_runtime, "int8"),
    "OpenVINO, int8": functools.partial(ask_openvino, "int8"),
}


def print_table(found, work):
    """The medians, as a Markdown table."""
    print("\n| | examples/s | of ours | share of the product | peak memory, MiB |\n|---|---|---|---|---|")
    for side, rounds in found.items():
        name, _, precision = side.partition(", ")
        if name != "product":
            speed = median("per_second", rounds)
            ratio = median("per_second", rounds, found[f"keras_bert_app, {precision}"])
            share = (
                f"{work * median('per_second', rounds, found[f'product, {precision}']):.0%}" if work else ""
            )
            memory = median("peak_mib", rounds)
            print(f"| {side} | {speed:.2f} | {ratio:.2f} | {share} | {memory:,.0f} |")


def median(name, rounds, others=None):
    """The median of a number, or of its ratio to that of others in the same round."""
    if others is None:
        return statistics.median(row[name] for row in rounds)
    return statistics.median(row[name] / other[name] for row, other in zip(rounds, others, strict=True))


def machine():
    """What the processor is."""
    import platform

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"processor": names[0] if names else platform.processor(), "cores": len(names) or os.cpu_count()}


if __name__ == "__main__":
    main()
