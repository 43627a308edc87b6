import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_python
from loopback import Loopback, answer, giving, in_parts, one_after_the_other

from keras_bert_app import archives, cache, downloads, fetching, published
from keras_bert_app.downloads import download

NOISE = np.random.default_rng(0).bytes(20_000)
FILES = {"saved_model.pb": b"graph", "variables/variables.index": NOISE}
QUERY = "?tf-hub-format=compressed"
BERT = "/tensorflow/bert_en_uncased_L-12_H-768_A-12/4"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The folder of an own cache; no waiting between attempts."""
    monkeypatch.setenv("KBA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    monkeypatch.setattr(fetching, "PAUSE", 0.001)
    return tmp_path / "cache"


@pytest.fixture
def hub():
    server = Loopback()
    yield server
    server.close()


def tar(files=FILES, compress=True):
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz" if compress else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return written.getvalue()


def zipped(files):
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # without the time of day: the same bytes each time
    return written.getvalue()


def read(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def kept(place, hidden=False):
    """What the cache holds: names of entries, or what is there of downloads that are not whole."""
    if hidden:
        return [p.name for p in (place / ".partial").rglob("*") if p.is_file()]
    assert not [p for p in place.glob(".*") if p.name not in (".partial", ".locks")]
    return [p.name for p in place.glob("[!.]*")] if place.exists() else []


def sha(data):
    return hashlib.sha256(data).hexdigest()


def fails(place, handle, error, message, **options):
    """Checks the error, that it names the handle, and that the cache is as it was."""
    before = kept(place)
    with pytest.raises(error, match=message) as caught:
        download(handle, **options)
    assert str(handle) in str(caught.value)
    assert kept(place) == before


# What is here already


def test_local_paths_are_given_back(tmp_path):
    for name in ("a folder", "model"):
        (tmp_path / name).mkdir()
        assert download(tmp_path / name) == download(str(tmp_path / name)) == tmp_path / name
    assert download((tmp_path / "a folder").as_uri()) == tmp_path / "a folder"
    (tmp_path / "model" / "bert_model.ckpt.index").touch()
    assert download(tmp_path / "model" / "bert_model.ckpt") == tmp_path / "model" / "bert_model.ckpt"
    (tmp_path / "a.weights.h5").touch()
    assert download(tmp_path / "a.weights.h5", offline=True) == tmp_path / "a.weights.h5"


def test_a_folder_of_a_short_name_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bert_tiny").mkdir()
    assert download("bert_tiny") == Path("bert_tiny")


@pytest.mark.parametrize(
    "handle", ["/none", "./none", "~/none-of-that", "none.zip", "file:///none", Path("none")]
)
def test_no_such_path(handle):
    with pytest.raises(FileNotFoundError, match="there is no .*none.*: check the path"):
        download(handle)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("uncased.zip", zipped({"uncased/vocab.txt": b"[PAD]"})),
        ("uncased.tar.gz", tar({"vocab.txt": b"[PAD]"})),
        ("uncased.tar", tar({"vocab.txt": b"[PAD]"}, False)),
    ],
)
def test_local_archives(tmp_path, place, name, data):
    (tmp_path / name).write_bytes(data)
    folder = download(tmp_path / name, offline=True)
    assert read(folder) == {"vocab.txt": b"[PAD]"}
    assert folder.name == "uncased"  # the archive's name, or that of the one folder in it
    os.rename(tmp_path / name, tmp_path / f"other-{name}")
    (tmp_path / name).write_bytes(data)
    assert download((tmp_path / name).as_uri(), sha256=sha(data).upper()) == folder
    fails(place, tmp_path / name, ValueError, f"has the SHA-256 {sha(data)}, not 0000", sha256="0" * 64)


def test_a_damaged_local_archive(tmp_path, place):
    (tmp_path / "a.zip").write_bytes(zipped(FILES)[:-9])
    fails(place, tmp_path / "a.zip", ValueError, "is damaged or cut short")
    assert (tmp_path / "a.zip").exists()


# TF-Hub and archives


@pytest.mark.parametrize("compress", [True, False])
def test_a_tfhub_handle(hub, place, compress):
    hub.routes[BERT + QUERY] = giving(b"", 302, Location="/elsewhere")
    hub.routes["/elsewhere"] = giving(tar(compress=compress))
    folder = download(hub.url + BERT)
    assert read(folder) == FILES
    assert folder.name == "bert_en_uncased_L-12_H-768_A-12"
    assert [path for _, path, _ in hub.asked] == [BERT + QUERY, "/elsewhere"]
    hub.close()
    assert download(hub.url + BERT + "/") == download(hub.url + BERT, offline=True) == folder
    (entry,) = kept(place)
    assert entry.startswith("bert_en_uncased_L-12_H-768_A-12-")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert kept(place, hidden=True) == []


def test_a_query_is_respected(hub):
    hub.routes["/model?a=b&tf-hub-format=compressed"] = giving(tar())
    assert read(download(f"{hub.url}/model?a=b")) == FILES


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar", ".zip"])
def test_the_address_of_an_archive(hub, suffix):
    data = zipped(FILES) if suffix == ".zip" else tar(compress=suffix != ".tar")
    hub.routes[f"/uncased_L-2{suffix}"] = giving(data)
    folder = download(f"{hub.url}/uncased_L-2{suffix}")
    assert (read(folder), folder.name) == (FILES, "uncased_L-2")


def test_the_cache_of_tensorflow_hub(hub, place, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "tfhub"))
    folder = tmp_path / "tfhub" / hashlib.sha1((hub.url + BERT).encode()).hexdigest()
    folder.mkdir(parents=True)
    fails(place, hub.url + BERT, FileNotFoundError, "404")  # an empty folder is none
    (folder / "saved_model.pb").touch()
    hub.close()
    assert download(hub.url + BERT) == download(hub.url + BERT, offline=True) == folder


@pytest.mark.parametrize(
    ("status", "error", "advice"),
    [
        (401, PermissionError, "needs a login"),
        (403, PermissionError, "login or an agreement"),
        (404, FileNotFoundError, "check the address and the version"),
        (410, FileNotFoundError, "it is gone"),
        (418, ConnectionError, "check the address"),
    ],
)
def test_refusals_are_final(hub, place, status, error, advice):
    hub.routes[BERT + QUERY] = giving(b"<html>no</html>", status)
    fails(place, hub.url + BERT, error, f"{status} .*{advice}")
    assert len(hub.asked) == 1


def test_a_server_that_is_out_of_order(hub, place):
    hub.routes[BERT + QUERY] = giving(b"", 503)
    fails(place, hub.url + BERT, ConnectionError, "in 4 attempts: the server answered 503")
    assert len(hub.asked) == 4
    hub.routes[BERT + QUERY] = one_after_the_other(giving(b"", 500), giving(b"", 429), giving(tar()))
    assert read(download(hub.url + BERT)) == FILES


def test_no_server(hub, place):
    hub.close()
    fails(place, hub.url + BERT, ConnectionError, "in 4 attempts: .*Check the connection and try again")


def test_no_address(place):
    fails(place, "http://[no/model", ValueError, "is no address that can be asked: InvalidURL")
    fails(place, "http:///model", ValueError, "is no address that can be asked: InvalidURL")


@pytest.mark.parametrize("data", [tar(), tar(compress=False), zipped(FILES)])
def test_a_connection_that_breaks_off(hub, place, data):
    hub.routes["/a.zip"] = in_parts(data, '"one"', [9_000, 5_000])
    assert read(download(f"{hub.url}/a.zip")) == FILES
    assert [part for _, _, part in hub.asked] == [None, "bytes=9000-", "bytes=14000-"]


def test_an_interrupted_download_goes_on(hub, place):
    hub.routes["/a.zip"] = in_parts(zipped(FILES), '"one"', [5_000, 1_000, 1_000, 1_000])
    fails(place, f"{hub.url}/a.zip", ConnectionError, "what was downloaded is kept")
    assert sorted(kept(place, hidden=True)) == ["archive", "archive.json"]
    assert read(download(f"{hub.url}/a.zip")) == FILES
    assert hub.asked[-1][2] == "bytes=8000-"
    assert kept(place, hidden=True) == []


def test_a_whole_file_that_was_not_unpacked(hub, place, monkeypatch):
    hub.routes["/a.zip"] = in_parts(zipped(FILES), '"one"')
    with monkeypatch.context() as context:
        context.setattr(downloads, "unpack", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            download(f"{hub.url}/a.zip")
    assert kept(place) == []
    assert read(download(f"{hub.url}/a.zip")) == FILES
    assert len(hub.asked) == 2


@pytest.mark.parametrize("etag", ['"two"', None, 'W/"one"'])
def test_a_file_that_has_changed_starts_anew(hub, place, etag):
    old = zipped({"old": NOISE})
    first = in_parts(old, '"one"' if etag == '"two"' else etag, [5_000])
    hub.routes["/a.zip"] = one_after_the_other(first, in_parts(zipped(FILES), etag))
    assert read(download(f"{hub.url}/a.zip")) == FILES


def test_a_server_without_ranges_or_with_wrong_ones(hub, place):
    data = zipped(FILES)
    begun = in_parts(data, '"one"', [5_000])
    for number, wrong in enumerate(
        (
            giving(data, ETag='"one"'),
            giving(b"", 416),
            giving(data, 206, Content_Range=f"bytes 0-{len(data) - 1}/{len(data)}"),
        )
    ):
        hub.routes[f"/{number}.zip"] = one_after_the_other(begun, wrong, giving(data))
        begun = in_parts(data, '"one"', [5_000])
        assert read(download(f"{hub.url}/{number}.zip")) == FILES


@pytest.mark.parametrize("data", [tar(), tar(compress=False), zipped(FILES)])
def test_a_cut_that_the_server_does_not_tell_of(hub, place, data):
    def route(handler):  # neither a length nor chunks: the end of the connection is the end
        handler.send_response(200)
        handler.send_header("ETag", '"one"')
        handler.end_headers()
        handler.wfile.write(data[:5_000])
        handler.close_connection = True

    hub.routes["/a.zip"] = route
    fails(place, f"{hub.url}/a.zip", ValueError, "is damaged or cut short")
    assert kept(place, hidden=True) == []
    hub.routes["/a.zip"] = giving(data)
    assert read(download(f"{hub.url}/a.zip")) == FILES


def test_a_tar_that_was_cut_between_members(hub, place):
    plain = tar(compress=False)
    hub.routes[BERT + QUERY] = giving(plain[:1024])  # one whole member
    fails(place, hub.url + BERT, ValueError, "is damaged or cut short: its end is missing")
    hub.routes[BERT + QUERY] = giving(gzip.compress(plain[:1024]))
    fails(place, hub.url + BERT, ValueError, "is damaged or cut short: its end is missing")
    assert kept(place, hidden=True) == []


@pytest.mark.parametrize("name", ["../evil", "/evil", "a\\evil"])
def test_a_hostile_archive(hub, place, tmp_path, name):
    hub.routes[BERT + QUERY] = giving(tar({**FILES, name: b"evil"}))
    fails(place, hub.url + BERT, ValueError, "leads out of the folder")
    assert not list(tmp_path.rglob("*evil*"))
    assert kept(place, hidden=True) == []


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page(hub, place, kind):
    hub.routes[BERT + QUERY] = giving(b"<!doctype html><html></html>", Content_Type=kind)
    fails(place, hub.url + BERT, ValueError, "web page")
    assert kept(place, hidden=True) == []


def test_too_large_a_file(hub, place, monkeypatch):
    monkeypatch.setattr(fetching, "MAX_BYTES", 10_000)
    hub.routes["/a.zip"] = giving(zipped(FILES))
    fails(place, f"{hub.url}/a.zip", ValueError, "has 20,.* bytes. No BERT is so large")

    def route(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(zipped(FILES))
        handler.close_connection = True

    hub.routes["/a.zip"] = route
    fails(place, f"{hub.url}/a.zip", ValueError, "has more than 10,000 bytes")


def test_sha256(hub, place):
    hub.routes["/a.zip"] = giving(zipped(FILES))
    handle = f"{hub.url}/a.zip"
    fails(place, handle, ValueError, "has the SHA-256 .*, not 0000", sha256="0" * 64)
    assert kept(place, hidden=True) == []
    folder = download(handle, sha256=sha(zipped(FILES)))
    hub.close()
    assert download(handle) == download(handle, sha256=sha(zipped(FILES)).upper()) == folder
    fails(place, handle, ValueError, "in the cache has the SHA-256 .*, not 0000", sha256="0" * 64)


def test_sha256_of_what_is_no_archive(tmp_path, place):
    good = {"sha256": "0" * 64}
    fails(place, "hf://a/b", ValueError, "sha256 is for archives.*pin a revision", **good)
    fails(place, "kaggle://a/b/c/d/1", ValueError, "sha256 is for archives.*pin a revision", **good)
    fails(place, "gs://bucket/folder", ValueError, "sha256 is for archives.*pin a revision", **good)
    fails(place, tmp_path, ValueError, "sha256 is for archives.*leave it out", **good)
    fails(place, "bert_tiny", ValueError, "sha256 is of one archive.*give https://storage.goog", **good)
    with pytest.raises(ValueError, match="sha256='abc': give the 64 hexadecimal digits"):
        download("bert_tiny", sha256="abc")


def test_a_model_that_was_taken_out_of_the_cache(hub, place):
    hub.routes["/a.zip"] = giving(zipped(FILES))
    folder = download(f"{hub.url}/a.zip")
    os.rename(folder, folder.with_name("mine"))
    assert read(download(f"{hub.url}/a.zip")) == FILES


@pytest.mark.parametrize(
    "handle",
    [
        "https://tfhub.dev/tensorflow/bert/1",
        "http://localhost/a.zip",
        "kaggle://a/b/c/d",
        "hf://a/b",
        "gs://a/b",
        "bert_tiny",
    ],
)
def test_offline(place, handle, monkeypatch):
    monkeypatch.setattr(downloads, "_get", None)
    fails(place, handle, FileNotFoundError, "is not in the cache .*cache, and offline=True", offline=True)


# Several places


def test_what_tfhub_does_not_give_is_on_kaggle(hub, place, monkeypatch):
    asked = []

    def fetch_kaggle(handle, folder):
        asked.append(handle)
        (folder / "files").mkdir()
        (folder / "files" / "saved_model.pb").touch()
        return folder / "files"

    monkeypatch.setattr(downloads.hubs, "fetch_kaggle", fetch_kaggle)
    monkeypatch.setattr(downloads, "_address", lambda handle: handle.replace("https://tfhub.dev", hub.url))
    hub.routes[BERT] = giving(b"", 302, Location="/page")
    hub.routes["/page"] = giving(b"<html>Kaggle</html>", Content_Type="text/html")
    handle = "https://tfhub.dev" + BERT
    folder = download(handle)
    assert asked == ["kaggle://tensorflow/bert/tensorFlow2/en-uncased-l-12-h-768-a-12/4"]
    assert folder.name == "en-uncased-l-12-h-768-a-12"
    hub.close()
    assert download(handle) == download(asked[0]) == download(handle, offline=True) == folder
    assert len(asked) == 1
    with pytest.raises(ConnectionError, match="in 4 attempts"):  # Kaggle has no archive that it could be of
        download(handle, sha256="0" * 64)
    assert len(asked) == 1


def test_all_failures_are_told(hub, place, monkeypatch):
    handles = (f"{hub.url}/a.zip", f"{hub.url}/model/4", f"{hub.url}/b.zip")
    monkeypatch.setattr(published, "handles_of", lambda name: handles)
    hub.routes["/model/4" + QUERY] = giving(b"garbage")
    fails(
        place, "bert_tiny", OSError, r"(?s)was found nowhere.*by hand.*\n- .*/a.zip: .*404.*\n- .*no archive"
    )
    hub.routes["/b.zip"] = giving(zipped(FILES))
    folder = download("bert_tiny")
    hub.close()
    assert download("bert_tiny") == download(handles[2]) == folder


def test_both_attempts_are_told(place, hub, monkeypatch):
    def fetch_kaggle(handle, folder):
        raise FileNotFoundError(f"there is no {handle}")

    monkeypatch.setattr(downloads.hubs, "fetch_kaggle", fetch_kaggle)
    monkeypatch.setattr(downloads, "_address", lambda handle: hub.url)
    handle = "https://tfhub.dev" + BERT
    fails(
        place, handle, OSError, r"(?s)by hand and give the file or folder.*\n- https://tf.*404.*\n- kaggle://"
    )


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        ("bert_base_uncased", "there is no model.*did you mean .*bert_base_en_uncased.*A handle is a local"),
        ("google-bert/bert-base-uncased", "Did you mean hf://google-bert/bert-base-uncased?"),
        ("", "there is no model ''.*A handle is"),
        ("s3://bucket/model", "is no handle. A handle is a local folder"),
        ("hf://one", "is no handle"),
        ("hf://one/two/three", "is no handle"),
        ("kaggle://a/b", "is no handle"),
    ],
)
def test_no_handle(place, handle, message):
    fails(place, handle, ValueError, message)


@pytest.mark.parametrize(
    ("page", "handle"),
    [
        ("https://www.kaggle.com/models/a/b/c/d/4?tfhub-redirect=true", "kaggle://a/b/c/d/4"),
        ("https://kaggle.com/models/a/b/c/d/", "kaggle://a/b/c/d"),
        ("https://www.kaggle.com/models/a/b/frameworks/c/variations/d/versions/4", "kaggle://a/b/c/d/4"),
        ("https://huggingface.co/a/b", "hf://a/b"),
        ("https://huggingface.co/a/b/tree/v1.0", "hf://a/b@v1.0"),
        ("hf://a/b@v1.0", "hf://a/b@v1.0"),
    ],
)
def test_pages_are_handles(monkeypatch, page, handle):
    monkeypatch.setattr(downloads, "_get", lambda handle, *_: handle)
    assert download(page) == handle


# The cache


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.delenv("KBA_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache.cache_folder() == tmp_path / ".cache" / "keras_bert_app"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "keras_bert_app"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.cache_folder() == tmp_path / "Library" / "Caches" / "keras_bert_app"
    (tmp_path / "file").touch()
    monkeypatch.setenv("KBA_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match="cannot write .*cache: .*choose another place"):
        cache.cache_folder()


def test_what_killed_processes_left_is_removed(hub, place):
    hub.routes["/a.zip"] = giving(zipped(FILES))
    folder = download(f"{hub.url}/a.zip").parent
    stale = folder.with_name(f".{folder.name}.part-1")
    os.rename(folder, stale)
    download(f"{hub.url}/a.zip")
    assert not stale.exists()


def test_waiting_for_another_process(hub, place, monkeypatch, capsys):
    monkeypatch.setattr(cache, "WORD_SECONDS", 0.05)
    monkeypatch.setattr(cache, "LOCK_SECONDS", 0.05)
    handle = f"{hub.url}/a.zip"
    hub.routes["/a.zip"] = giving(zipped(FILES))
    with cache.locked(handle):
        fails(place, handle, TimeoutError, "another process has been downloading it for 0.05 seconds")
        assert f"waiting for another process that downloads {handle}" in capsys.readouterr().err
        monkeypatch.setattr(cache, "LOCK_SECONDS", 10)
        results = []
        thread = threading.Thread(target=lambda: results.append(download(handle)))
        thread.start()
        time.sleep(0.2)
        assert not results
    thread.join()
    assert read(results[0]) == FILES


def test_two_processes(hub, place):
    def slowly(handler):
        time.sleep(0.5)
        answer(handler, zipped(FILES))

    hub.routes["/a.zip"] = slowly
    code = "import sys; from keras_bert_app.downloads import download; print(download(sys.argv[1]))"
    command = [sys.executable, "-W", "error", "-c", code, f"{hub.url}/a.zip"]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    folders = {process.communicate(timeout=60) for process in processes}
    assert len(folders) == 1, folders
    ((folder, errors),) = folders
    assert read(Path(folder.strip())) == FILES
    assert errors == ""  # no bar, as it is no terminal
    assert len(hub.asked) == 1
    assert len(kept(place)) == 1


def test_a_bar_on_a_terminal(hub, monkeypatch):
    hub.routes["/a.zip"] = giving(zipped(FILES))
    shown = io.StringIO()
    shown.isatty = lambda: True
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", shown)
    download(f"{hub.url}/a.zip")
    assert "a.zip" in shown.getvalue()


def test_a_full_disk(hub, place, monkeypatch):
    hub.routes["/a.zip"] = in_parts(zipped(FILES), '"one"')

    def full(path, folder):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(downloads, "unpack", full)
        with pytest.raises(OSError, match="cannot write .*: No space left on device. Free space there"):
            download(f"{hub.url}/a.zip")
    assert kept(place) == []
    assert "archive" in kept(place, hidden=True)  # it was whole: it need not be downloaded again


def test_source_is_noted(hub, place):
    hub.routes["/a.zip"] = giving(zipped({"uncased/vocab.txt": b"a"}))
    folder = download(f"{hub.url}/a.zip")
    noted = json.loads((folder.parents[1] / "source.json").read_text())
    assert noted == {
        "handle": f"{hub.url}/a.zip",
        "sha256": sha(zipped({"uncased/vocab.txt": b"a"})),
        "folder": "a/uncased",
    }


def test_the_module_loads_no_tensorflow(tmp_path):
    code = """
import sys
from keras_bert_app.downloads import download
download(sys.argv[1])
print([m for m in ("tensorflow", "keras", "requests", "huggingface_hub", "kagglehub") if m in sys.modules])
"""
    assert run_python(code, tmp_path).stdout.strip() == "[]"


def test_limits_are_those_of_archives():
    assert fetching.MAX_BYTES == archives.MAX_BYTES
