"""Convert a checkpoint from one format to another, and measure what it changed."""

import dataclasses
import warnings
from pathlib import Path

import keras
import numpy as np

from keras_bert_app import files, handles
from keras_bert_app.checkpoints import opening, saving
from keras_bert_app.encoder import encoder_config

TOLERANCE = 1e-5
BATCH, LENGTH, PREDICTIONS = 3, 17, 4
LENGTH_ON_TFHUB = 128


@dataclasses.dataclass
class Report:
    """What a conversion changed.

    Args:
        differences: dict from each layer's and head's output to the largest absolute difference
            between source and target on a fixed batch.
        others: the same between the source and what other programs compute from the target, where
            that is something else, or an empty dict.
        left_out: heads that the target's format has no place for.
    """

    differences: dict
    others: dict
    left_out: tuple

    @property
    def largest(self):
        """The largest difference, not a number if any is."""
        return float(np.max(list(self.differences.values())))

    def __str__(self):
        lines = ["largest absolute difference between source and target"]
        width = max(map(len, [*self.differences, *self.left_out])) + 2
        if self.others:
            lines.append(" " * width + "read here  elsewhere")
        for name, difference in self.differences.items():
            other = f"{self.others[name]:11.1e}" if self.others else ""
            lines.append(f"{name:{width}}{difference:9.1e}{other}")
        lines += [f"{name:{width}}left out: the format has no place for it" for name in self.left_out]
        return "\n".join(lines)


class ToleranceError(ValueError):
    """A conversion changed more than it may; `report` is its `Report`."""

    def __init__(self, message, report):
        super().__init__(message)
        self.report = report


def convert(
    source,
    target,
    format="huggingface",
    tolerance=TOLERANCE,
    ignore=(),
    offline=False,
    dtype="float32",
):
    """Writes a checkpoint in another format, heads, labels and tokenizer too, and measures it.

    Source and target are run on the same batch, and the outputs of every layer and head compared.
    If they differ by more than `tolerance`, nothing is left at `target`.

    Args:
        source: see `open_checkpoint`.
        target: folder to be written; must not exist.
        format: see `save_checkpoint`.
        tolerance: largest absolute difference of any output.
        ignore: patterns of names of tensors in the source that are left out.
        offline: True to make no request.
        dtype: see `save_checkpoint`; float16 changes outputs by about 1e-3, so raise `tolerance`.

    Returns:
        `Report`; `str` of it is a table.

    Raises:
        ToleranceError: the outputs differ by more than `tolerance`; a ValueError with the `report`.
        ValueError: see `save_checkpoint`.
        FileNotFoundError, FileExistsError, OSError: see `from_pretrained` and `save_checkpoint`.

    Example:

    ```python
    print(kba.convert("uncased_L-12_H-768_A-12/bert_model.ckpt", "bert-base-uncased", "huggingface"))
    ```
    """
    target = Path(target)
    if target.exists():
        raise FileExistsError(f"{target} exists: choose another folder, or remove it")
    kept = saving.heads_of_format(format)
    preprocessor, encoder, model, all_heads, answers = _read(source, format, kept, ignore, offline)
    with files.whole(target) as temporary:
        saving.save_checkpoint(model, temporary, format, preprocessor, dtype=dtype, **answers)
        ours = outputs(encoder, model)
        checkpoint = opening.open_folder(temporary)
        differences = _compare(ours, outputs(*_build(checkpoint, checkpoint.model)))
        if format == "tfhub":
            for name, value in _compare(
                ours, _graph_outputs(temporary / "encoder", checkpoint.config)
            ).items():
                differences[name] = float(np.maximum(differences[name], value))  # keeps NaN
        others, plain = {}, opening.open_folder(temporary, note=False)
        if format != "tfhub" and _numbers(plain) != _numbers(checkpoint):
            others = _compare(ours, outputs(*_build(plain, plain.model)))
        left_out = tuple(head for head in all_heads if head not in checkpoint.heads)
        report = Report(differences, others, left_out)
        if not report.largest <= tolerance:  # NaN too
            raise ToleranceError(
                f"{target} is not written: its outputs differ from those of {source} by "
                f"{report.largest:.1e}, more than tolerance={tolerance}",
                report,
            )
    return report


def _read(source, format, kept, ignore, offline):
    """The preprocessor, or None, the encoder and the model, float32; all heads; labels and problem type."""
    checkpoint = handles.open_checkpoint(source, offline)
    preprocessor = None
    if checkpoint.tokenizer:
        # As long as those of TF-Hub's preprocessing models, which pad every text to their length.
        length = min(LENGTH_ON_TFHUB, checkpoint.config.max_position_embeddings)
        is_open = format == "tfhub" and checkpoint.sequence_length is None
        preprocessor = handles.build_preprocessor(checkpoint, length if is_open else None)
    is_kept = set(checkpoint.heads) & set(kept)
    encoder, model = _build(checkpoint, checkpoint.model if is_kept else None, ignore)
    answers = {"labels": checkpoint.labels, "problem_type": checkpoint.problem_type} if is_kept else {}
    return preprocessor, encoder, model, checkpoint.heads, answers


def _build(checkpoint, head, ignore=()):
    """The encoder and the model of a checkpoint, and the pooler of the file, though no head needs it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* has no pooler")
        encoder, model = checkpoint.build(head, "float32", ignore)
    if not checkpoint.name_of("pooler/kernel"):
        if model is encoder:
            model = keras.Model(encoder.input, {"sequence_output": encoder.output["sequence_output"]})
    elif not any(v.path.startswith("pooler/") for v in model.weights):
        found = model.output if isinstance(model.output, dict) else {"logits": model.output}
        model = keras.Model(model.input, {**found, "pooled_output": encoder.output["pooled_output"]})
    return encoder, model


def batch(config, wanted):
    """A fixed batch: dict of int arrays of the inputs `wanted`, with padding, types and positions."""
    random = np.random.default_rng(0)
    length = min(LENGTH, config.max_position_embeddings)
    lengths = np.array([length, max(1, length - 5), max(1, length // 2)])
    inputs = {
        "input_word_ids": random.integers(0, config.vocab_size, (BATCH, length)),
        "input_mask": np.arange(length) < lengths[:, None],
        "input_type_ids": random.integers(0, config.type_vocab_size, (BATCH, length)),
        "masked_lm_positions": random.integers(0, length, (BATCH, PREDICTIONS)),
    }
    return {name: inputs[name].astype("int32") for name in wanted}


def outputs(encoder, model):
    """The outputs of every layer and head on a fixed batch.

    Args:
        encoder: see `bert_encoder`.
        model: the encoder, or a model with a head on it.

    Returns:
        dict of float32 arrays.
    """
    probe = {"embeddings": encoder.get_layer("embeddings_norm").output}
    probe |= {f"layer_{index}": output for index, output in enumerate(encoder.output["encoder_outputs"])}
    if any(variable.path.startswith("pooler/") for variable in model.weights):
        probe["pooled_output"] = encoder.output["pooled_output"]
    if model is not encoder:
        probe |= model.output if isinstance(model.output, dict) else {"logits": model.output}
    probe = keras.Model(model.input, probe)
    if keras.config.backend() == "tensorflow":
        probe.jit_compile = False
    # Compiled, as a SavedModel is: the rounding of single operations adds up otherwise, in deep models.
    results = probe.predict_on_batch(batch(encoder_config(encoder), model.input))
    return {name: np.asarray(value) for name, value in results.items()}


def _graph_outputs(folder, config):
    """The same of a TF-Hub encoder, by the program in its SavedModel."""
    import tensorflow as tf

    encoder = tf.saved_model.load(str(folder))
    has_head = hasattr(encoder, "mlm")
    wanted = ["input_word_ids", "input_mask", "input_type_ids"] + ["masked_lm_positions"] * has_head
    inputs = batch(config, wanted)
    found = (encoder.mlm if has_head else encoder)({k: tf.constant(v) for k, v in inputs.items()})
    layers = {f"layer_{index}": output for index, output in enumerate(found["encoder_outputs"])}
    return {
        name: np.asarray(value) for name, value in {**found, **layers}.items() if name != "encoder_outputs"
    }


def _compare(ours, theirs):
    """The largest absolute difference of each output that both have."""
    return {name: float(np.abs(ours[name] - theirs[name]).max()) for name in ours if name in theirs}


def _numbers(checkpoint):
    config = checkpoint.config
    return config.hidden_act, config.layer_norm_eps, *checkpoint.mlm_numbers
