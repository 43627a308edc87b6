import ast
import configparser
import dataclasses
import doctest
import importlib
import json
import os
import pkgutil
import re
import runpy
import textwrap
from pathlib import Path

import formats
import pytest
from conftest import CONFIG, ROOT, VOCABULARY, reviews, run_python, write_trainable
from serving import free_port

import keras_bert_app as kba
from keras_bert_app import tasks

PACKAGE = ROOT / "keras_bert_app"
MODULES = sorted(
    m.name for m in pkgutil.walk_packages(kba.__path__, "keras_bert_app.") if not m.name.endswith(".__main__")
)
# A module imports from its own line and the lines above.
ORDER = [
    ["fusing", "lean"],
    [
        "activations",
        "archives",
        "arguments",
        "bundled",
        "config",
        "feeding",
        "files",
        "losses",
        "metrics",
        "preprocessing",
        "progress",
        "python_preprocessor",
    ],
    ["profiling", "published", "quiet", "reports", "warm_up"],
    ["data"],
    ["rematerialization", "runtimes", "tokens"],
    ["dense", "dropout", "normalization"],
    ["softmax"],
    ["layers"],
    ["cache", "encoder", "fetching", "hubs", "optimization", "serving_ops", "vocabulary"],
    ["downloads", "heads"],
    ["adaptation", "hub"],
    ["checkpoints"],
    ["preparation", "resizing"],
    ["signatures"],
    ["tasks", "handles", "checkpointing", "registry", "run_folder"],
    ["precision", "task_model"],
    ["loading"],
    ["embedding"],
    ["conversion", "pretraining_data", "pretraining_loop", "pretraining_start", "training_loop"],
    ["pretraining", "training"],
    ["formats"],
    ["exporting", "serving_files"],
    ["inspecting"],
    ["serving"],
    ["cli_predict", "cli_pretraining", "cli_serving", "demo"],
    ["cli"],
]


def imports_of(path):
    """The parts of the package that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keras_bert_app"):
            parts = node.module.split(".")[1:]
            yield from parts[:1] or [alias.name for alias in node.names if alias.name != "__version__"]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part == "__init__":
        return
    rank = {name: index for index, names in enumerate(ORDER) for name in names}
    for imported in imports_of(path):
        assert rank[imported] <= rank[part], f"{part} imports {imported}"
        if part in ("preprocessing", "config"):
            assert imported == part
        if part == "checkpoints":
            allowed = {"adaptation", "checkpoints", "config", "encoder", "files", "fusing", "heads"}
            assert imported in allowed | {"preprocessing"}


def test_the_import_and_help_are_quick_and_load_no_tensorflow():
    code = """
import sys, time
start = time.perf_counter()
import keras_bert_app as kba
dir(kba)
from keras_bert_app import cli
print(time.perf_counter() - start, [m for m in ("tensorflow", "keras", "numpy") if m in sys.modules])
"""
    seconds, modules = run_python(code).stdout.split(maxsplit=1)
    assert modules.strip() == "[]"
    assert float(seconds) < 2  # half a second on a quiet machine; see CONTRIBUTING.md


def test_encoder_heads_and_losses_load_without_tensorflow_text():
    code = """
import sys
sys.modules["tensorflow_text"] = None
import keras_bert_app as kba
from keras_bert_app import tasks
kba.bert_encoder, kba.text_classifier, kba.BertConfig, kba.finetune, kba.load
[tasks.get_task(name).compile_options() for name in tasks.task_names()]
print("loaded")
"""
    done = run_python(code)
    assert done.stdout.strip() == "loaded", done.stderr


def test_public_names():
    assert set(dir(kba)) == set(kba.__all__)
    for name in kba.__all__:
        assert getattr(kba, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kba.nothing  # noqa: B018


def test_a_keras_file_loads_in_a_fresh_process(pretrained, tmp_path):
    kba.from_pretrained(pretrained)[1].save(tmp_path / "encoder.keras")
    code = """
import sys, keras
import keras_bert_app as kba
print(len(keras.saving.load_model(sys.argv[1], custom_objects=kba.custom_objects()).weights))
"""
    done = run_python(code, tmp_path / "encoder.keras")
    assert done.stdout.strip() == str(len(kba.from_pretrained(pretrained)[1].weights)), done.stderr


def test_custom_objects_are_all_that_is_registered():
    import keras

    for name in MODULES:
        importlib.import_module(name)
    registered = {name for name in keras.saving.get_custom_objects() if name.startswith("keras_bert_app>")}
    assert registered == set(kba.custom_objects())


# What is written is run


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the files that README, docstrings and examples speak of, small ones."""
    monkeypatch.chdir(tmp_path)
    write_trainable(tmp_path / "all-MiniLM-L6-v2", positions=128)
    formats.write_google(tmp_path / "uncased_L-12_H-768_A-12")
    for name, rows in (("train", reviews(70)), ("validation", reviews(20)), ("test", reviews(30))):
        lines = "".join(f'"{text}",{label}\n' for text, label in rows)
        (tmp_path / f"{name}.csv").write_text("text,label\n" + lines)
    (tmp_path / "train.conll").write_text("Anna B-person\nlaughs O\n\nthe O\nfilm O\n")
    question = {"id": "1", "question": "Who laughs?", "answers": [{"text": "Anna", "answer_start": 0}]}
    other = {"id": "2", "question": "Who weeps?", "answers": []}
    squad = {"data": [{"paragraphs": [{"context": "Anna laughs.", "qas": [question, other]}]}]}
    for name in ("train", "dev"):
        (tmp_path / f"{name}-v2.0.json").write_text(json.dumps(squad))
    (tmp_path / "corpus").mkdir()
    texts = [f"{text}. The cast was {label}. I loved it." for text, label in reviews(70)]
    (tmp_path / "corpus" / "reviews.txt").write_text("\n\n".join(texts))
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY))
    (tmp_path / "bert_config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def names():
    return {"kba": kba, "__name__": "__main__", **{name: getattr(kba, name) for name in kba.__all__}}


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module, request):
    module = importlib.import_module(module)
    assert module.__doc__, "no docstring"
    import keras

    scope = {**vars(module), **names(), "keras": keras}
    found = doctest.DocTestFinder(exclude_empty=True).find(module, globs=scope)
    if any(test.examples for test in found):
        request.getfixturevalue("workplace")
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in found:
        runner.run(test)
    assert runner.failures == 0
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_"):
            assert getattr(value, "__doc__", None), f"{name} has no docstring"


def blocks(text):
    """The Python blocks in Markdown or in a docstring."""
    return [
        textwrap.dedent(block) for block in re.findall(r"^[ ]*```python\n(.*?)^[ ]*```", text, re.M | re.S)
    ]


@pytest.mark.filterwarnings("ignore:the model gives all")
@pytest.mark.parametrize("name", [name for name in kba.__all__ if blocks(getattr(kba, name).__doc__ or "")])
def test_blocks_in_docstrings(name, workplace, run_folder):
    if name != "finetune":
        (workplace / "runs").mkdir()
        os.symlink(run_folder, workplace / "runs" / "reviews")
    for block in blocks(getattr(kba, name).__doc__):
        exec(block, names())


@pytest.mark.filterwarnings("ignore:the model gives all")
def test_readme(workplace, monkeypatch):
    """Every Python block of the README, one after the other, as a reader would run them."""
    monkeypatch.setattr(kba, "load_imdb", lambda: (reviews(70), reviews(30)))
    scope = {"__name__": "__main__"}
    found = blocks((ROOT / "README.md").read_text())
    assert len(found) >= 5
    kba.convert("all-MiniLM-L6-v2", "minilm-hub", "tfhub")  # a command there
    for block in found:
        exec(compile(block, "README.md", "exec"), scope)


@pytest.mark.filterwarnings("ignore:the model gives all")
def test_python_of_the_page_of_the_tasks(workplace):
    for block in blocks((ROOT / "docs" / "tasks.md").read_text()):
        exec(compile(block, "tasks.md", "exec"), {"kba": kba})


def test_the_page_of_the_tasks_has_all_options():
    sections = re.split(r"^## ", (ROOT / "docs" / "tasks.md").read_text(), flags=re.M)
    found = {section.split("\n")[0]: section for section in sections}
    for name in tasks.task_names():
        fields = {field.name for field in dataclasses.fields(tasks.task_class(name))}
        assert fields <= set(re.findall(r"`([a-z_]+)`", found[name]))
        assert set(re.findall(r"--option ([a-z_]+)", found[name])) <= fields


@pytest.mark.parametrize("page", ["README.md", "docs/tasks.md"])
def test_commands_of_a_page_exist(page):
    from typer.main import get_command

    from keras_bert_app.cli import app

    commands = get_command(app).commands
    shown = re.findall(r"keras-bert ([a-z-]+)((?:[^\n]*\\\n)*[^\n`]*)", (ROOT / page).read_text())
    assert {name for name, _ in shown} - {"app"} <= set(commands) | {"--help"}
    for name, line in shown:
        if name in commands:
            options = {option for parameter in commands[name].params for option in parameter.opts}
            assert set(re.findall(r"--[a-z-]+", line)) <= options | {"--help"}


def write_data_of_examples(folder, layers):
    """What the examples would download, much smaller."""
    write_trainable(folder / "all-MiniLM-L6-v2", positions=256, layers=layers)
    with (folder / "all-MiniLM-L6-v2" / "vocab.txt").open("a") as file:
        file.write("fair\n")
    for number, (text, label) in enumerate(reviews(70)):
        for part in ("train", "test"):
            path = folder / "aclImdb" / part / label[:3] / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (folder / "STS-B").mkdir()
    pairs = [f"{first}\t{second}\t{number % 6}.0" for number, (first, second) in enumerate(reviews(20))]
    for part in ("train", "dev"):
        (folder / "STS-B" / f"{part}.tsv").write_text("\n".join(["sentence1\tsentence2\tscore", *pairs]))
        (folder / f"wnut-{part}.conll").write_text("Anna\tB-person\nlaughs\tO\n\nthe\tO\n" * 4)
        (folder / f"{part}-v1.1.json").write_text((folder / "train-v2.0.json").read_text())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples(path, workplace, monkeypatch, capsys):
    write_data_of_examples(workplace, layers=4 if path.name == "word_in_two_meanings.py" else 1)
    monkeypatch.setenv("STEPS", "21")  # of the training
    monkeypatch.setenv("PORT", str(free_port()))
    runpy.run_path(str(path), run_name="__main__")
    said = {
        "pretrain.py": "is_next",
        "load_any_bert.py": "encoder_outputs is sequence_output: True",
        "movie_reviews.py": "accuracy",
        "named_entities.py": "'count': [",
        "person_or_country.py": "accuracy",
        "serve_rest.py": "exit code 0",
        "question_answering.py": "When was the lighthouse built?",
        "sentence_similarity.py": "after: Spearman",
        "word_in_two_meanings.py": "layer 4 of 4: one meaning",
    }
    assert said[path.name] in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_notebooks_are_made_from_the_examples(path):
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    made = jupytext.reads(path.read_text(), fmt="py:percent")
    stored = jupytext.read(path.with_suffix(".ipynb"))
    assert [(c.cell_type, c.source) for c in made.cells] == [(c.cell_type, c.source) for c in stored.cells]


def test_metadata():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for line in config["options"]["install_requires"].split():
        assert re.fullmatch(r"[a-z\d-]+(>=[\d.]+,)?<[\d.]+", line), f"{line} needs bounds"
    assert f"## {kba.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    for name in ("LICENSE", "README.md", "CONTRIBUTING.md", "keras_bert_app/py.typed", ".ci/run"):
        assert Path(ROOT / name).exists()
