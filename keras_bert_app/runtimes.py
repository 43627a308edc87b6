"""Models of LiteRT, ONNX Runtime and OpenVINO: from the encoder's inputs to a task's output."""

import importlib.util
import os

import numpy as np

from keras_bert_app.data.features import INPUTS

# Of each format: the file of the model, and the packages that write and run it; its extra has its name.
FORMATS = {
    "litert": ("model.tflite", ("ai_edge_litert",)),
    "onnx": ("model.onnx", ("onnx", "onnxruntime", "tf2onnx")),
    "openvino": ("model.xml", ("openvino", "nncf")),
}


class Runtime:
    """A model of another runtime, in the place of a `keras.Model` that predicts.

    Args:
        format: key of `FORMATS`.
        folder: where its file is.
        inputs, outputs: their names; outputs in their order.

    Raises:
        ModuleNotFoundError: the runtime is not installed.
        ValueError: the file is damaged.
    """

    def __init__(self, format, folder, inputs, outputs):
        require(format, writing=False)
        self.inputs = inputs
        self.outputs = outputs
        path = folder / FORMATS[format][0]
        try:
            self.run = OPENERS[format](str(path), outputs)
        except Exception as error:  # each runtime has its own
            message = " ".join(str(error).split())[:300]
            raise ValueError(
                f"{path} is damaged or no model of {format}: {message}. Export it again"
            ) from error

    def predict_on_batch(self, inputs):
        """The output, or a dict of outputs, arrays `(batch, ...)`.

        Padding that no row needs is cut, from outputs for each word piece too.
        """
        length = np.flatnonzero(np.any(inputs["input_mask"], axis=0)).max(initial=0) + 1
        short = {name: array[:, :length] if name in INPUTS else array for name, array in inputs.items()}
        found = self.run({name: np.ascontiguousarray(short[name], "int32") for name in self.inputs})
        return found if len(self.outputs) > 1 else found[self.outputs[0]]


def require(format, writing=True):
    """Raises ModuleNotFoundError if what writes, or only what runs, a format is not installed."""
    modules = FORMATS[format][1]
    needed = modules if writing else [name for name in modules if name not in ("onnx", "tf2onnx", "nncf")]
    for name in needed:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(
                f'{name} is not installed, which {format} needs: pip install "keras_bert_app[{format}]"'
            )


def open_litert(path, outputs):
    """A function of a dict of inputs that returns a dict of outputs."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(path, num_threads=os.cpu_count()).get_signature_runner()
    return lambda inputs: run(**inputs)


def open_onnx(path, outputs):
    """See `open_litert`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda inputs: dict(zip(outputs, session.run(outputs, inputs), strict=True))


def open_openvino(path, outputs):
    """See `open_litert`."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    # By its default, on processors that have it, what is not in int8 is in bfloat16.
    is_quantized = any(operation.get_type_name() == "FakeQuantize" for operation in model.get_ops())
    model = core.compile_model(model, "CPU", {} if is_quantized else {"INFERENCE_PRECISION_HINT": "f32"})
    ports = {name: model.output(name) for name in outputs}

    def run(inputs):
        found = model(inputs)
        return {name: found[port] for name, port in ports.items()}

    return run


OPENERS = {"litert": open_litert, "onnx": open_onnx, "openvino": open_openvino}
