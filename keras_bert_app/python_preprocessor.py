"""`PythonPreprocessor`: text to the inputs of an exported model, without TensorFlow."""

import json
from pathlib import Path

import numpy as np


class PythonPreprocessor:
    """Makes the inputs of a model for LiteRT, ONNX Runtime or OpenVINO with Hugging Face's tokenizers alone.

    The ids are those of `BertPreprocessor`, which the model was trained with; TensorFlow is not imported.

    Args:
        folder: that `export` has written.

    Call arguments:
        texts: list of str, or of tuples of two or more for texts that are read together.

    Returns:
        dict of int32 arrays `(batch, length)`: `input_word_ids`, `input_mask` and `input_type_ids`.

    Raises:
        FileNotFoundError: the folder has no tokenizer.
        TypeError: a text is no str.

    Example:

    ```python
    import onnxruntime

    path = kba.export("runs/reviews", "saved_models/reviews-onnx", format="onnx")
    session = onnxruntime.InferenceSession(path / "model.onnx")  # as in a process without TensorFlow
    (logits,) = session.run(["logits"], kba.PythonPreprocessor(path)(["A great film!"]))
    ```
    """

    def __init__(self, folder):
        from tokenizers import Tokenizer

        folder = Path(folder)
        for name in ("tokenizer.json", "config.json"):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"there is no {name} in {folder}: give what keras-bert export --format has written"
                )
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.options = json.loads((folder / "config.json").read_text(encoding="utf-8"))["preprocessor"]
        self.ids = {name: self.tokenizer.token_to_id(f"[{name}]") for name in ("PAD", "CLS", "SEP")}

    def __call__(self, texts):
        rows = [self._row(given if isinstance(given, list | tuple) else (given,)) for given in texts]
        longest = max((len(ids) for ids, _ in rows), default=0)
        width = self._width(longest)
        found = {name: np.zeros((len(rows), width), "int32") for name in ("mask", "types")}
        words = np.full((len(rows), width), self.ids["PAD"], "int32")
        for index, (ids, types) in enumerate(rows):
            words[index, : len(ids)] = ids
            found["mask"][index, : len(ids)] = 1
            found["types"][index, : len(ids)] = types
        return {"input_word_ids": words, "input_mask": found["mask"], "input_type_ids": found["types"]}

    def _width(self, longest):
        limit = self.options["sequence_length"]
        if self.options["padding"] == "max_length":
            return limit
        multiple = self.options["pad_to_multiple_of"]
        return min(-(-longest // multiple) * multiple, limit)

    def _row(self, texts):
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"{text!r:.80} is no text: give a list of str, or of tuples of them")
        segments = [self.tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        budget = self.options["sequence_length"] - 1 - len(segments)
        spans = STRATEGIES[self.options["truncation"]]([len(ids) for ids in segments], budget)
        words, types = [self.ids["CLS"]], [0]
        for index, (ids, kept) in enumerate(zip(segments, spans, strict=True)):
            part = [*(i for begin, end in kept for i in ids[begin:end]), self.ids["SEP"]]
            words += part
            types += [min(index, 1)] * len(part)
        return words, types


# What `preprocessing.truncation` does in the graph: from lengths and a budget to the spans that are kept.


def longest_first(lengths, budget):
    """The longest loses a piece until all fit, of equal ones the last."""
    kept = [min(length, budget) for length in lengths]
    while sum(kept) > budget:
        longest = max(kept)
        kept[len(kept) - 1 - kept[::-1].index(longest)] -= 1
    return [[(0, number)] for number in kept]


def in_order(lengths, budget, order):
    """Each gets what it needs, or what is left, in an order."""
    kept = {}
    for index in order:
        kept[index] = min(lengths[index], budget)
        budget -= kept[index]
    return [[(0, kept[index])] for index in range(len(lengths))]


def waterfall(lengths, budget):
    """From the first to the last."""
    return in_order(lengths, budget, range(len(lengths)))


def only_first(lengths, budget):
    """The first is cut."""
    return in_order(lengths, budget, [*range(1, len(lengths)), 0])


def only_second(lengths, budget):
    """The second is cut."""
    return in_order(lengths, budget, [0, *range(2, len(lengths)), 1])


def head_tail(lengths, budget):
    """A quarter from the start and three from the end."""
    spans = []
    for length, [(_, number)] in zip(lengths, longest_first(lengths, budget), strict=True):
        tail = 3 * number // 4 if number < length else 0
        spans.append([(0, number - tail), (length - tail, length)])
    return spans


STRATEGIES = {
    function.__name__: function for function in (longest_first, waterfall, only_first, only_second, head_tail)
}
