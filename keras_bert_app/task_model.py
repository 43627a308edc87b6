"""A model for a task that takes text: what `finetune` and `load` return."""

from pathlib import Path

import keras

from keras_bert_app import files
from keras_bert_app.data import buckets
from keras_bert_app.tasks import check_columns, get_task, options_of, replaced

FEW = 8  # rows that are answered before the graph of a model is made
KEPT = 4  # functions of tasks that differ in their options; each holds a graph


class TaskModel:
    """A task, a preprocessor and a model; call it with texts.

    Args:
        task: the task, see `tasks`; or its name, and then its options follow as `options`.
        preprocessor: `BertPreprocessor`.
        model: `keras.Model` from the encoder's inputs to the task's output.
        options: dict of the options of a task that is named, such as `{"labels": ["no", "yes"]}`.

    Call arguments:
        inputs: a list of what the task takes: str, or tuples of two for pairs of texts. One alone is a
            list of one.
        batch_size: texts that go through the model together.
        options: of the task, in the place of its own for this call, such as `top_k` of `FillMask`.

    Returns:
        list of dicts, one for each input; see the task's `answers`.

    Raises:
        ValueError: a text is empty or 1 MB and more, the message names its index; or an option is not
            possible.

    Example:

    ```python
    model = kba.load("runs/reviews")
    model(["a great film"])  # [{"label": "positive", "score": 0.98, ...}]
    ```
    """

    def __init__(self, task, preprocessor, model, options=None):
        task = get_task(task, **(options or {}))
        self.task = task.settled() if hasattr(task, "settled") else task
        self.preprocessor = prepared(self.task, preprocessor)
        self.model = model
        self.is_asked_once = False  # True: no graph is made for few rows, see `buckets.runner`
        # The functions that answer, with the tasks that they were made for, of one state of the model.
        self._runs, self._state_of_runs = [], None

    @property
    def labels(self):
        """The labels, in the order of the outputs; None for a task without."""
        return getattr(self.task, "labels", None)

    def __call__(self, inputs, batch_size=32, **options):
        task = replaced(self.task, options) if options else self.task
        inputs = task.check(inputs)
        return task.answers(*self._ask(task, inputs, batch_size), inputs)

    def outputs(self, inputs, batch_size=32):
        """The model's raw outputs for a list of inputs, one for each item, see `Features`."""
        return self._ask(self.task, list(inputs), batch_size)[0]

    def _ask(self, task, inputs, batch_size):
        features = task.encode(self.preprocessor, inputs)
        return self.predict(features, batch_size, task), features

    def uses_outputs_of(self, task):
        """Says that `model` is already what the `predictor` of a task would make of it."""
        self._runs, self._state_of_runs = [(task, buckets.runner(self.model))], self._state()

    def _state(self):
        """Another object after the model was compiled, or its layers have changed; None of a `Runtime`."""
        if not isinstance(self.model, keras.Model):
            return None
        self.model.make_predict_function()  # where there is none; it returns None if it makes one
        return self.model.predict_function

    def predict(self, features, batch_size=32, task=None, once=False):
        """The raw outputs of the model, or of the task's `predictor`, for `Features`, one for each row.

        With `once` no graph is made for them, see `buckets.runner`.
        """
        task = self.task if task is None else task
        if once or (self.is_asked_once and len(features.lengths()) <= FEW):
            run = buckets.runner(self._outputs_of(task), traced=False)
        else:
            run = self._run_of(task)
        return buckets.predict(run, features, batch_size, task.per_piece)

    def _run_of(self, task):
        """The function that gives the outputs for a task; those of the last few tasks are kept."""
        state = self._state()
        if state != self._state_of_runs:
            self._runs, self._state_of_runs = [], state
        found = [one for one in self._runs if one[0] == task or not hasattr(task, "predictor")]
        last = found[0] if found else (task, buckets.runner(self._outputs_of(task)))
        others = [one for one in self._runs if one is not last]
        self._runs = [*others[1 - KEPT :], last]
        return last[1]

    def _outputs_of(self, task):
        """The model from which the answers of a task are made."""
        return task.predictor(self.model, self.preprocessor) if hasattr(task, "predictor") else self.model

    def evaluate(self, data, batch_size=32, columns=None, predictions=None):
        """How good the answers for examples are.

        Args:
            data: a path or an iterable of `(input, target)`; see the task's `read`.
            batch_size: texts that go through the model together.
            columns: dict of the names of columns, if they are others: of `"text"`, `"pair"` and
                `"label"`.
            predictions: for question answering, path of a `.json` file to which the answers are written as
                the scripts of SQuAD read them; how sure it is that there is none goes to a file beside it,
                which ends in `-null-odds.json`.

        Returns:
            dict, see the task's `report`; for text classification with `accuracy`,
            `per_class`, `confusion_matrix` and `worst_mistakes`.

        Raises:
            ValueError: the data cannot be used, or hold a label that the model does not know.
        """
        examples = self.task.read(data, check_columns(columns))
        features = self.task.encode(self.preprocessor, [given for given, _ in examples])
        self.task.training_targets(features, examples)  # an unknown label is an error before the work
        if predictions is not None and not hasattr(self.task, "predictions"):
            raise ValueError(f"predictions={str(predictions)!r}: {self.task.name} has no format for them")
        outputs = self.predict(features, batch_size)
        if predictions is not None:
            self._write_predictions(Path(predictions), outputs, features, examples)
        return self.task.report(outputs, features, examples)

    def _write_predictions(self, path, outputs, features, examples):
        found = self.task.predictions(outputs, features, examples)
        odds = path.with_name(f"{path.name.removesuffix('.json')}-null-odds.json")
        for name, target in (("null_odds", odds), ("predictions", path)):
            if name in found:
                with files.whole(target) as temporary:
                    files.write_json(temporary, found[name])

    def validate(self, features, examples, batch_size=32):
        """See `evaluate`, of examples that are encoded already, with the threshold that is best for them."""
        outputs = self.predict(features, batch_size)
        task = self.task.tuned(outputs, features, examples) if self.task.is_tuned else self.task
        return task.report(outputs, features, examples)

    def text_model(self):
        """One `keras.Model` from strings `(batch,)` to the task's output, preprocessing inside.

        It has an input for each text that the model reads together: `text`, and `text_pair` for pairs.
        """
        names = getattr(self.task, "model_inputs", self.task.text_inputs)
        texts = [keras.Input((), dtype="string", name=name) for name in names]
        packed = self.preprocessor(tuple(texts) if len(texts) > 1 else texts[0])
        if "masked_lm_positions" in self.model.input:
            from keras_bert_app.preprocessing.mask_positions import MaskPositions

            packed = MaskPositions(self.preprocessor.tokenizer.token_to_id("[MASK]"))(packed)
        return keras.Model(texts if len(texts) > 1 else texts[0], self.model(packed), name="text_model")

    def save(self, folder, **details):
        """Writes `model.keras`, `labels.json` and `config.json` to an existing folder.

        Args:
            folder: where to.
            details: what else `config.json` shall hold.
        """
        folder = Path(folder)
        self.text_model().save(folder / "model.keras")
        options = options_of(self.task)
        labels = options.pop("labels", None)
        if labels is not None:
            files.write_json(folder / "labels.json", labels)
        files.write_json(folder / "config.json", {"task": self.task.name, "options": options, **details})


def prepared(task, preprocessor):
    """The preprocessor as the task needs it."""
    return task.prepared(preprocessor) if hasattr(task, "prepared") else preprocessor
