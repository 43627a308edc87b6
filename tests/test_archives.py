import gzip
import io
import os
import stat
import tarfile
import warnings
import zipfile

import numpy as np
import pytest

from keras_bert_app import archives

FILES = {"model/vocab.txt": b"[PAD]\n", "model/deep/er/config.json": b"{}"}


def tar(path, members, compress=True):
    """Writes a tar of (name or TarInfo, bytes) pairs; no folders, unless they are given."""
    with tarfile.open(path, "w:gz" if compress else "w") as archive:
        for member, data in members:
            member = tarfile.TarInfo(member) if isinstance(member, str) else member
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def special(kind, name="model/special", target="/etc/passwd"):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members with one name
        for member, data in members:
            archive.writestr(member, data)
    return path


def written(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(path, message):
    """Checks the error, and that nothing is left or was written anywhere."""
    before = set(path.parent.rglob("*"))
    with pytest.raises(ValueError, match=message) as caught:
        archives.unpack(path, path.parent / "folder")
    assert str(path) in str(caught.value)
    assert set(path.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar", "a.zip", "a name that says nothing"])
def test_unpack(tmp_path, name):
    path = tmp_path / name
    write = zipped if name.endswith("zip") else tar
    write(path, FILES.items(), *([name != "a.tar"] if write is tar else []))
    archives.unpack(path, tmp_path / "out")
    assert written(tmp_path / "out") == FILES
    assert archives.inner_folder(tmp_path / "out") == tmp_path / "out" / "model"
    assert archives.is_archive(path) == ("." in name)


def test_folders_and_dots_may_be_members(tmp_path):
    folders = [special(tarfile.DIRTYPE, name) for name in ("./", "./model", "./model/")]
    members = [(member, b"") for member in folders] + [(f"./{n}", data) for n, data in FILES.items()]
    archives.unpack(tar(tmp_path / "a.tar", members, False), tmp_path / "tar")
    assert written(tmp_path / "tar") == FILES
    archives.unpack(zipped(tmp_path / "a.zip", [("model/", b""), *FILES.items()]), tmp_path / "zip")
    assert written(tmp_path / "zip") == FILES


def test_long_names(tmp_path):
    name = "/".join(["ä" * 80] * 4)
    archives.unpack(tar(tmp_path / "a.tar.gz", [(name, b"x")]), tmp_path / "out")
    assert written(tmp_path / "out") == {name: b"x"}


def test_modes_are_not_taken_over(tmp_path):
    member = tarfile.TarInfo("run")
    member.mode = 0o6777
    archives.unpack(tar(tmp_path / "a.tar", [(member, b"x")], False), tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out" / "run").stat().st_mode) & 0o7111 == 0


def test_inner_folder(tmp_path):
    (tmp_path / "uncased_L-2").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / ".DS_Store").touch()
    assert archives.inner_folder(tmp_path) == tmp_path / "uncased_L-2"
    (tmp_path / "vocab.txt").touch()
    assert archives.inner_folder(tmp_path) == tmp_path


NAMES = ["../evil", "a/../../evil", "/evil", "C:/evil", "C:evil", "..\\evil", "a\\evil"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", [tar, zipped])
def test_names_that_lead_out(tmp_path, write, name):
    refused(write(tmp_path / "a", [*FILES.items(), (name, b"x")]), "leads out of the folder")


def test_a_file_without_a_name(tmp_path):
    refused(tar(tmp_path / "a.tar", [("./", b"x")]), "leads out of the folder")


def test_a_name_with_a_null_in_a_zip(tmp_path):
    path = zipped(tmp_path / "a.zip", [("goodXevil", b"x")])
    path.write_bytes(path.read_bytes().replace(b"goodXevil", b"good\0evil"))
    refused(path, "leads out of the folder")


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE],
)
def test_links_and_devices(tmp_path, kind):
    refused(tar(tmp_path / "a.tgz", [*FILES.items(), (special(kind), b"")]), "is a link or a device")


def test_a_link_in_a_zip(tmp_path):
    link = zipfile.ZipInfo("model/link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    refused(zipped(tmp_path / "a.zip", [*FILES.items(), (link, b"/etc/passwd")]), "is a link or a device")


def test_an_encrypted_zip(tmp_path):
    path = zipped(tmp_path / "a.zip", FILES.items())
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    refused(path, "is encrypted")


TWICE = [("a", "a"), ("a/b", "a"), ("a", "a/b"), ("vocab.txt", "VOCAB.txt"), ("a/b", "./a//b")]


@pytest.mark.parametrize("names", TWICE)
@pytest.mark.parametrize("write", [tar, zipped])
def test_two_of_one_name(tmp_path, write, names):
    refused(write(tmp_path / "a", [(name, b"x") for name in names]), "is there twice")


@pytest.mark.parametrize("write", [tar, zipped])
def test_limits(tmp_path, monkeypatch, write):
    bomb = write(tmp_path / "bomb", [("zeros", bytes(3_000_000))])
    noise = write(tmp_path / "noise", [("noise", np.random.default_rng(0).bytes(3_000_000))])
    monkeypatch.setattr(archives, "MAX_RATIO_FROM", 1_000_000)
    refused(bomb, "unpacks to more than 100 times its size")
    archives.unpack(noise, tmp_path / "out")
    monkeypatch.setattr(archives, "MAX_BYTES", 2_000_000)
    refused(noise, "unpacks to more than 2,000,000 bytes")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    refused(write(tmp_path / "many", [("a", b""), ("b", b"")]), "holds more than 1 files")


def test_a_bomb_that_its_headers_do_not_tell_of(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 2_000_000)
    plain = tar(tmp_path / "a.tar", FILES.items(), False)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(plain.read_bytes() + bytes(3_000_000)))
    refused(path, "unpacks to more than 2,000,000 bytes")


def test_a_header_that_would_fill_the_memory(tmp_path):
    header = special(tarfile.XHDTYPE, "pax")
    refused(tar(tmp_path / "a.tar.gz", [(header, bytes(2_000_000)), *FILES.items()]), "a header of 2,000,")


def test_a_header_that_leads_back(tmp_path):
    member = tarfile.TarInfo("model/a")
    member.size = -2048
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    (tmp_path / "a.tar").write_bytes(header + bytes(20 * 512))
    refused(tmp_path / "a.tar", "damaged|lead back")


def test_plain_tars_that_were_cut(tmp_path):
    whole = tar(tmp_path / "a.tar", [("a", b"x" * 700), ("b", b"y" * 700)], False).read_bytes()
    for length in (1024, 1536, 1600, 2000, 3000, 3072, 3584):  # at members, in them, in the end's two blocks
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        refused(tmp_path / "cut.tar", "damaged or cut short")
    (tmp_path / "enough.tar").write_bytes(whole[:4096])
    archives.unpack(tmp_path / "enough.tar", tmp_path / "out")


def test_gzipped_tars_that_are_damaged(tmp_path):
    whole = tar(tmp_path / "a.tar.gz", [("a", np.random.default_rng(0).bytes(50_000))]).read_bytes()
    for data in (whole[:10_000], whole[:-1], whole[:-8], whole + b"garbage"):
        (tmp_path / "cut.tar.gz").write_bytes(data)
        refused(tmp_path / "cut.tar.gz", "damaged or cut short")
    for place in (30_000, -6):  # in the data, in the CRC
        data = bytearray(whole)
        data[place] ^= 1
        (tmp_path / "flip.tar.gz").write_bytes(data)
        refused(tmp_path / "flip.tar.gz", "damaged or cut short")
    (tmp_path / "no.tar.gz").write_bytes(gzip.compress(b"just text " * 100))
    refused(tmp_path / "no.tar.gz", "damaged or cut short")
    # At a member, with the gzip whole
    plain = gzip.decompress(whole)
    (tmp_path / "short.tar.gz").write_bytes(gzip.compress(plain[: 512 + 50_176]))
    refused(tmp_path / "short.tar.gz", "damaged or cut short: its end is missing")


def test_zips_that_are_damaged(tmp_path):
    whole = zipped(tmp_path / "a.zip", [("a", np.random.default_rng(0).bytes(50_000))]).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    refused(tmp_path / "cut.zip", "damaged or cut short")
    data = bytearray(whole)
    data[20_000] ^= 1
    (tmp_path / "flip.zip").write_bytes(data)
    refused(tmp_path / "flip.zip", "damaged or cut short")
    assert sorted(os.listdir(tmp_path)) == ["a.zip", "cut.zip", "flip.zip"]


def test_no_archive(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"<!DOCTYPE HTML><html>Not found")
    refused(tmp_path / "a.zip", "is a web page: it begins with b'<!DOCTYPE")
    (tmp_path / "b.zip").write_bytes(b"plain")
    refused(tmp_path / "b.zip", "is no archive")
    (tmp_path / "c.zip").write_bytes(b"")
    refused(tmp_path / "c.zip", "is no archive")
    for write in (tar, zipped):
        refused(write(tmp_path / "empty", []), "holds no files|damaged")


def test_a_folder_that_cannot_be_written(tmp_path):
    path = tar(tmp_path / "a.tar.gz", FILES.items())
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write .*Free space there"):
        archives.unpack(path, tmp_path / "file" / "out")
