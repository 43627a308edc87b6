"""A fine-tuned model for LiteRT, ONNX Runtime or OpenVINO, with its tokenizer beside it."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import keras
import numpy as np

from keras_bert_app import files
from keras_bert_app.checkpoints import tokenizers
from keras_bert_app.lean import portable_models
from keras_bert_app.precision import in_float32
from keras_bert_app.runtimes import FORMATS, Runtime, require
from keras_bert_app.task_model import TaskModel
from keras_bert_app.tasks import check_columns, options_of

QUANTIZED = ("float16", "int8")
TOLERANCE = 1e-3  # of outputs in float32
CALIBRATION = 300  # examples at most, and rows of them


def write(model, folder, format, quantize=None, data=None, columns=None):
    """Writes a model to an existing folder.

    Args:
        model: `TaskModel`.
        folder: where to: `model.tflite`, `model.onnx`, or `model.xml` and `model.bin`; `tokenizer.json` and
            the other files of a Hugging Face tokenizer; `config.json` and `labels.json`.
        format: `"litert"`, `"onnx"` or `"openvino"`.
        quantize: see `export`.
        data, columns: see `export`.

    Raises:
        ModuleNotFoundError: what writes the format is not installed.
        ValueError: the outputs differ too much from those of the Keras model.
    """
    require(format)
    if isinstance(data, Iterator):
        data = list(data)  # it is read more than once
    task = model.task
    model = TaskModel(task, model.preprocessor, in_float32(model.model))
    source = task.predictor(model.model, model.preprocessor) if hasattr(task, "predictor") else model.model
    outputs = source.output
    outputs = outputs if isinstance(outputs, dict) else {getattr(task, "output_name", "logits"): outputs}
    named = keras.Model(source.input, outputs)
    # The exporters want it to have been called.
    named({name: np.ones((1, 2), "int32") for name in source.input})
    # LiteRT is the faster with matrices of tokens, as TensorFlow is.
    written_for = contextlib.nullcontext() if format == "litert" else portable_models()
    with warnings.catch_warnings(), written_for:
        warnings.simplefilter("ignore")  # about what the exporters of Keras use of NumPy
        if format == "openvino" and quantize == "int8" and data is not None:
            write_openvino(named, folder, quantize, typical_inputs(model, list(source.input), data, columns))
        else:
            WRITERS[format](named, folder, quantize)
    names = list(outputs)
    length = model.preprocessor.sequence_length
    tokenizers.write_huggingface(model.preprocessor.tokenizer, length, folder)
    options = options_of(task)
    labels = options.pop("labels", None)
    if labels is not None:
        files.write_json(folder / "labels.json", labels)
    config = {
        "task": task.name, "options": options, "format": format, "quantize": quantize,
        "preprocessor": model.preprocessor.options, "inputs": list(source.input), "outputs": names,
    }  # fmt: skip
    written = TaskModel(task, model.preprocessor, Runtime(format, folder, config["inputs"], names))
    written.uses_outputs_of(task)
    config["check"] = check(model, written, folder, quantize, data, columns)
    files.write_json(folder / "config.json", config)


def check(model, written, folder, quantize, data=None, columns=None):
    """Compares a model that was written with the one that it was made of.

    Returns:
        dict: `bytes` of the files of the model; `float32_bytes` of its weights; `difference`, the largest of
        any output on some texts; and with `data` `metric`, the name of the task's, with its value `before`
        and `after`.

    Raises:
        ValueError: a number is not finite, or without `quantize` the difference is larger than 0.001.
    """
    inputs = examples(model.task)
    found, expected = (
        each.predict(model.task.encode(each.preprocessor, inputs), 8) for each in (written, model)
    )
    difference = largest_difference(found, expected)
    if not np.isfinite(difference) or (difference > TOLERANCE and not quantize):
        raise ValueError(
            f"the outputs of the model that was written differ by up to {difference:.2g} from those of "
            "Keras: this runtime cannot take its place; nothing is written"
        )
    paths = [path for path in folder.iterdir() if path.name.startswith("model.")]
    report = {
        "bytes": sum(path.stat().st_size for path in paths),
        "float32_bytes": 4 * model.model.count_params(),
        "difference": difference,
    }
    if data is not None:
        values = [each.evaluate(data, columns=columns)[model.task.metric] for each in (model, written)]
        report |= {"metric": model.task.metric, "before": float(values[0]), "after": float(values[1])}
    return report


def typical_inputs(model, names, data, columns):
    """Inputs for some of the data, drawn: list of dicts by their names, of arrays `(1, length)`."""
    given = [given for given, _ in model.task.read(data, check_columns(columns))]
    features = model.task.encode(model.preprocessor, [given[i] for i in drawn(len(given))])
    return [{name: features.inputs([row])[name] for name in names} for row in drawn(len(features.examples))]


def drawn(number):
    """Up to `CALIBRATION` of so many indices, always the same."""
    return np.random.default_rng(0).permutation(number)[:CALIBRATION]


def examples(task):
    """Inputs of a task with texts of mixed lengths."""
    from keras_bert_app import warm_up

    row = warm_up.example(task.text_inputs, getattr(task, "example_texts", {}))
    inputs = [tuple(_repeated(text, number) for text in row.values()) for number in (1, 2, 3, 5, 8, 13, 21)]
    return inputs if len(row) > 1 else [text for (text,) in inputs]


def _repeated(text, number):
    return text if isinstance(text, list) else " ".join([text] * number)


def largest_difference(found, expected):
    """Of two lists of outputs, each an array or a structure of them; ids among them have none."""
    pairs = zip(*(map(np.asarray, keras.tree.flatten(outputs)) for outputs in (found, expected)), strict=True)
    numbers = [(a, b) for a, b in pairs if b.dtype.kind not in "iu"]
    differences = (np.abs(a.astype(float) - b.astype(float)).max(initial=0) for a, b in numbers)
    return float(max(differences, default=0))


def show(report):
    """What `check` has found, as text."""
    share = report["bytes"] / report["float32_bytes"]
    lines = [
        f"size        {report['bytes'] / 1e6:.1f} MB, {share:.0%} of the weights in float32",
        f"difference  {report['difference']:.2g} at most, of the outputs from those of Keras",
    ]
    if "metric" in report:
        before, after = report["before"], report["after"]
        lines.append(f"{report['metric']:11} {before:.4f} before, {after:.4f} after: {after - before:+.4f}")
    return "\n".join(lines)


def write_litert(model, folder, quantize):
    """Writes `model.tflite`; of int8 the activations are quantized as they come."""
    import tensorflow as tf

    options = {"optimizations": [tf.lite.Optimize.DEFAULT]} if quantize else {}
    if quantize == "float16":
        options["target_spec"] = {"supported_types": [tf.float16]}
    model.export(str(folder / FORMATS["litert"][0]), format="litert", verbose=False, **options)


class FedWithMatrices(keras.Model):
    """A model that takes its matrices as inputs too: of what is in its graph tf2onnx keeps many copies."""

    def __init__(self, model):
        super().__init__()
        self.whole = model
        found = [variable for variable in model.variables if len(variable.shape) > 1]
        self.matrices = {f"matrix_{number}": variable for number, variable in enumerate(found)}
        self.built = True

    def signature(self):
        """What it takes: dict of `keras.InputSpec`."""
        inputs = {name: (tensor.shape, tensor.dtype) for name, tensor in self.whole.input.items()}
        inputs |= {name: (variable.shape, variable.dtype) for name, variable in self.matrices.items()}
        return {name: keras.InputSpec(dtype, shape, name=name) for name, (shape, dtype) in inputs.items()}

    def call(self, inputs):
        given = {id(variable): inputs[name] for name, variable in self.matrices.items()}
        lists = (self.whole.trainable_variables, self.whole.non_trainable_variables)
        values = ([given.get(id(variable), variable.value) for variable in each] for each in lists)
        return self.whole.stateless_call(*values, {name: inputs[name] for name in self.whole.input})[0]


def _filled(model, matrices):
    """An ONNX model with the values of what it takes beside its inputs."""
    import onnx

    for name, variable in matrices.items():
        (value,) = (value for value in model.graph.input if value.name == name)
        model.graph.input.remove(value)
        array = keras.ops.convert_to_numpy(variable)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def write_onnx(model, folder, quantize):
    """Writes `model.onnx`; of int8 the activations are quantized as they come."""
    import onnx

    path = folder / FORMATS["onnx"][0]
    fed = FedWithMatrices(model)
    fed.export(str(path), format="onnx", verbose=False, input_signature=[fed.signature()])
    onnx.save(_filled(onnx.load(path), fed.matrices), path)
    if quantize == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)
    if quantize == "int8":
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic

        # Only what is a constant is quantized: a matrix of LoRA, or one that is transposed, is computed once.
        whole = path.with_name("whole.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(whole)
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        path.unlink()
        quantize_dynamic(whole, path, weight_type=QuantType.QInt8)
        whole.unlink()


def write_openvino(model, folder, quantize, inputs=None):
    """Writes `model.xml` and `model.bin`.

    Of int8 with `inputs`, see `typical_inputs`, activations are quantized to the ranges that they have of
    these, without them only the weights are quantized.
    """
    import openvino

    path = folder / FORMATS["openvino"][0]
    whole = folder / "whole.xml"
    model.export(str(whole), format="openvino", verbose=False)
    found = openvino.Core().read_model(whole)
    if quantize == "int8":
        import nncf

        logging.getLogger("nncf").setLevel(logging.WARNING)
        with contextlib.redirect_stdout(io.StringIO()):  # its progress
            if inputs is None:
                found = nncf.compress_weights(found, mode=nncf.CompressWeightsMode.INT8_ASYM)
            else:
                kind, data = nncf.ModelType.TRANSFORMER, nncf.Dataset(inputs)
                found = nncf.quantize(found, data, subset_size=len(inputs), model_type=kind)
    openvino.save_model(found, path, compress_to_fp16=quantize == "float16")
    del found
    for file in folder.glob("whole.*"):
        file.unlink()


WRITERS = {"litert": write_litert, "onnx": write_onnx, "openvino": write_openvino}
