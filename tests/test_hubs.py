import inspect
import json
import logging
import sys

import pytest
from conftest import run_python
from loopback import Loopback, answer, giving, one_after_the_other

from keras_bert_app import hubs
from keras_bert_app.downloads import download

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("KBA_CACHE", str(tmp_path / "cache"))
    running = Loopback()
    yield running
    running.close()


def entries(tmp_path):
    return [path.name for path in (tmp_path / "cache").glob("[!.]*")]


# Hugging Face


def test_select_files():
    needed = [
        "1_Pooling/config.json", "assets/tokenizer/vocabulary.txt", "bert_config.json",
        "bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index", "config.json",
        "config_sentence_transformers.json", "metadata.json", "model.weights.h5", "modules.json",
        "preprocessor.json", "saved_model.pb", "special_tokens_map.json", "task.json", "tokenizer.json",
        "tokenizer_config.json", "variables/variables.index", "vocab.txt",
    ]  # fmt: skip
    left = [
        "README.md", ".gitattributes", "modeling.py", "assets/code.py", "model.onnx", "onnx/model.onnx",
        "onnx/config.json", "flax_model.msgpack", "tf_model.h5", "rust_model.ot", "coreml/weights.bin",
        "training_args.bin", "optimizer.pt",
    ]  # fmt: skip
    safe = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    torch = ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin", "pytorch_model.bin.index.json"]
    assert hubs.select_files(needed + left) == sorted(needed)
    assert hubs.select_files(needed + left + torch) == sorted(needed + torch)
    assert hubs.select_files(torch + needed + safe + left) == sorted(needed + safe)


FACE = """
import sys
from keras_bert_app.downloads import download
for handle in sys.argv[1:]:
    try:
        print("path", download(handle))
    except OSError as error:
        print(type(error).__name__, error.__class__.__mro__[-4].__name__, str(error).replace(chr(10), " "))
"""


def face(server, *handles):
    """What a fresh process that takes the server for Hugging Face says of each handle."""
    done = run_python(FACE, *handles, HF_ENDPOINT=server.url, HF_HUB_DISABLE_XET="1", HF_TOKEN="")
    assert done.returncode == 0, done.stderr
    assert "%" not in done.stderr  # no bar, as it is no terminal
    return done.stdout.splitlines()


def repository(server, name, files, revision="main"):
    about = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
    route = giving(json.dumps(about).encode(), Content_Type="application/json")
    server.routes[f"/api/models/{name}/revision/{revision}"] = server.routes[f"/api/models/{name}"] = route
    for number, (file, data) in enumerate(files.items()):
        server.routes[f"/{name}/resolve/{COMMIT}/{file}"] = giving(
            data, ETag=f'"{number:040x}"', X_Repo_Commit=COMMIT, Accept_Ranges="bytes"
        )


def test_huggingface(server, tmp_path):
    files = {"config.json": b"{}", "model.safetensors": b"weights", "1_Pooling/config.json": b"[]"}
    repository(server, "org/bert", {**files, "modeling.py": b"evil", "pytorch_model.bin": b"old"})
    repository(server, "org/empty", {"README.md": b"#"}, "v1")
    refusals = {"gated": ("GatedRepo", 403), "none": ("RepoNotFound", 401), "out": ("", 418)}
    for name, (code, status) in refusals.items():
        route = giving(b"{}", status, X_Error_Code=code, X_Error_Message="no")
        server.routes[f"/api/models/org/{name}"] = route
    server.routes["/api/models/org/bert/revision/v9"] = giving(b"{}", 404, X_Error_Code="RevisionNotFound")
    lines = face(
        server, "hf://org/bert", "hf://org/gated", "hf://org/none", "hf://org/out", "hf://org/bert@v9",
        "hf://org/empty@v1",
    )  # fmt: skip
    folder = lines[0].removeprefix("path ")
    assert lines[1].startswith("PermissionError ")
    assert "is gated: accept its terms on https://huggingface.co/org/gated" in lines[1]
    assert lines[2].startswith("FileNotFoundError ")
    assert "there is no hf://org/none: check the name and the revision; if it is private" in lines[2]
    assert lines[3].startswith("ConnectionError ")
    assert "hf://org/out was not downloaded: HfHubHTTPError: " in lines[3]
    assert "there is no hf://org/bert@v9" in lines[4]
    assert "hf://org/empty@v1 holds nothing that a BERT can be read from" in lines[5]
    assert not [path for _, path, _ in server.asked if path.endswith((".py", ".bin", ".md"))]
    assert len(entries(tmp_path)) == 1
    server.close()
    # A second time, without the hub, in this process too
    path = download("hf://org/bert")
    assert str(path) == folder
    assert path.name == "bert"
    assert {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()} == files
    assert not (path / ".cache").exists()


def test_huggingface_breaks_off(server, tmp_path):
    repository(server, "org/bert", {"config.json": b"{}", "model.safetensors": b"weights"})
    address = f"/org/bert/resolve/{COMMIT}/model.safetensors"
    whole = server.routes[address]

    def cut(handler):
        if handler.command == "HEAD":
            return whole(handler)
        return answer(handler, b"", 404)

    server.routes[address] = cut
    (line,) = face(server, "hf://org/bert")
    assert line.startswith("ConnectionError ")
    assert "hf://org/bert was not downloaded: " in line
    assert entries(tmp_path) == []
    server.routes[address] = one_after_the_other(whole)
    asked = len(server.asked)
    assert face(server, "hf://org/bert")[0].endswith("/bert")
    assert ("GET", f"/org/bert/resolve/{COMMIT}/config.json", None) not in server.asked[asked:]


# Kaggle


@pytest.fixture
def kaggle(server, tmp_path, monkeypatch):
    """The server plays api.kaggle.com; nobody is logged in."""
    from kagglesdk import kaggle_env

    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, server.url)

    def method(name):
        return f"/api/v1/models.ModelApiService/{name}"

    def file(handler):
        answer(handler, json.loads(handler.body)["path"].encode())

    as_json = {"Content_Type": "application/json"}
    server.routes[method("GetModelInstance")] = giving(b'{"versionNumber": 7}', **as_json)
    names = {"files": [{"name": "config.json"}, {"name": "assets/vocab.txt"}], "nextPageToken": ""}
    server.routes[method("ListModelInstanceVersionFiles")] = giving(json.dumps(names).encode(), **as_json)
    server.routes[method("DownloadModelInstanceVersion")] = file
    return server


@pytest.mark.parametrize("version", ["", "/3"])
def test_kaggle(kaggle, tmp_path, capfd, version):
    handle = f"kaggle://keras/bert/keras/bert_tiny{version}"
    folder = download(handle)
    assert folder.name == "bert_tiny"
    assert {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()} == {
        "config.json": "config.json",
        "assets/vocab.txt": "assets/vocab.txt",
    }
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("kagglehub").level != logging.WARNING
    kaggle.close()
    assert download(handle, offline=True) == folder
    assert len(entries(tmp_path)) == 1


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (404, FileNotFoundError, "there is no kaggle://a/b/keras/d: check the name"),
        (403, PermissionError, "kaggle://a/b/keras/d needs a login or an agreement"),
        (500, ConnectionError, "kaggle://a/b/keras/d was not downloaded: "),
    ],
)
def test_kaggle_refuses(kaggle, tmp_path, status, error, message):
    for address in kaggle.routes:
        kaggle.routes[address] = giving(b"{}", status)
    with pytest.raises(error, match=message):
        download("kaggle://a/b/keras/d")
    assert entries(tmp_path) == []


def test_kaggle_where_it_is_mounted(server, tmp_path, monkeypatch):
    """In a notebook of Kaggle, the client ignores the folder that it is told."""
    import kagglehub

    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "config.json").touch()

    def model_download(handle, path=None, *, force_download=False, output_dir=None):
        return str(mounted)

    real = inspect.signature(kagglehub.model_download).parameters
    assert list(inspect.signature(model_download).parameters) == list(real)
    monkeypatch.setattr(kagglehub, "model_download", model_download)
    folder = download("kaggle://a/b/c/d/1")
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert tmp_path / "cache" in folder.parents


# Google Cloud Storage, whose place TensorFlow's file system in memory takes


@pytest.fixture
def memory(tmp_path):
    tf = pytest.importorskip("tensorflow")
    root = f"ram://{tmp_path.name}"
    tf.io.gfile.makedirs(f"{root}/model/variables")
    for name in ("config.json", "variables/variables.index"):
        with tf.io.gfile.GFile(f"{root}/model/{name}", "w") as file:
            file.write(name)
    return f"{root}/model"


def test_storage(memory, tmp_path):
    folder = hubs.fetch_storage(memory, tmp_path)
    assert (folder / "variables" / "variables.index").read_text() == "variables/variables.index"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "variables"]
    file = hubs.fetch_storage(f"{memory}/config.json", tmp_path)
    assert (file.name, file.read_text()) == ("config.json", "config.json")
    with pytest.raises(FileNotFoundError, match="there is nothing at ram://.*/none: check the address"):
        hubs.fetch_storage(f"{memory}/none", tmp_path)


def test_storage_fails(memory, tmp_path, monkeypatch):
    import tensorflow as tf

    def walk(top):
        yield f"{top}/../../evil", [], ["config.json"]

    with monkeypatch.context() as context:
        context.setattr(tf.io.gfile, "walk", walk)
        with pytest.raises(ValueError, match="leads out of the folder"):
            hubs.fetch_storage(memory, tmp_path)

    def forbidden(path):
        raise tf.errors.PermissionDeniedError(None, None, "not yours")

    with monkeypatch.context() as context:
        context.setattr(tf.io.gfile, "exists", forbidden)
        with pytest.raises(ConnectionError, match="was not copied: not yours. Check the address"):
            hubs.fetch_storage(memory, tmp_path)

    def copy(source, target, overwrite):
        open(target, "w").close()

    monkeypatch.setattr(tf.io.gfile, "copy", copy)
    with pytest.raises(ConnectionError, match="config.json was cut short"):
        hubs.fetch_storage(f"{memory}/config.json", tmp_path)


def test_storage_is_kept(memory, tmp_path, monkeypatch):
    """download() with gs:// read from memory, a folder and an archive."""
    import tensorflow as tf
    from test_archives import tar

    monkeypatch.setenv("KBA_CACHE", str(tmp_path / "cache"))
    real = hubs.fetch_storage
    monkeypatch.setattr(hubs, "fetch_storage", lambda handle, folder: real(f"ram{handle[2:]}", folder))
    handle = f"gs{memory[3:]}"
    assert sorted(path.name for path in download(handle).iterdir()) == ["config.json", "variables"]
    archive = tar(tmp_path / "a.tar.gz", [("uncased/vocab.txt", b"x")])
    tf.io.gfile.copy(str(archive), f"{memory}/a.tar.gz")
    assert download(f"{handle}/a.tar.gz").name == "uncased"
    monkeypatch.setattr(hubs, "fetch_storage", None)
    assert download(f"{handle}/a.tar.gz").name == "uncased"
    assert len(entries(tmp_path)) == 2
    assert "tensorflow" in sys.modules
