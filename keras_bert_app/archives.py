"""Archives, tar and zip, unpacked so that a hostile or damaged one writes nothing."""

import gzip
import math
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from keras_bert_app.files import whole

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
MAX_MEMBERS = 10_000
MAX_BYTES = 20 * 2**30
# A file of real weights hardly shrinks; a small one may be text, and 1 GB of it does no harm.
MAX_RATIO = 100
MAX_RATIO_FROM = 2**30
MAX_HEADER = 2**20  # bytes that one header of a tar may take; long names need a few hundred
CHUNK = 2**20
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError)


def is_archive(name):
    """Whether a file or an address ends like an archive that `unpack` reads."""
    return str(name).lower().endswith(SUFFIXES)


def unpack(path, folder):
    """Unpacks an archive into a new folder.

    Nothing is written before all members were looked at. Links, devices and names that lead out of
    the folder are refused, and so are archives that grow too much. Only contents are taken over:
    no owner, no mode, no time. If anything fails, there is no `folder`.

    Args:
        path: a `.tar`, `.tar.gz` or `.zip` file; the contents count, not the name.
        folder: the folder to be made.

    Raises:
        OSError: the folder cannot be written.
        ValueError: it is no archive, it is damaged or cut short, or a member is refused.
    """
    path = Path(path)
    with open(path, "rb") as file:
        start = file.read(512)
    try:
        if start.startswith((b"PK\3\4", b"PK\5\6")):
            _unpack_zip(path, folder)
        elif start.startswith(b"\x1f\x8b") or start[257:262] == b"ustar":
            _unpack_tar(path, folder)
        else:
            page = any(word in start.lower() for word in (b"<html", b"<!doctype html"))
            raise ValueError(
                f"{path} is {'a web page' if page else 'no archive'}: it begins with {start[:20]!r}. "
                "Give a .tar.gz, .tar or .zip file"
            )
    except DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is damaged or cut short: {reason}. Get it again") from error


def inner_folder(folder):
    """The only folder at the top of `folder`, if there is nothing else; otherwise `folder`.

    Google's archives hold one, whose name says whether the model is cased. What a Mac adds and files
    that begin with a dot do not count.
    """
    inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _unpack_zip(path, folder):
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        files, folders = {}, set()
        _check_size(path, len(members), sum(info.file_size for info in members), path.stat().st_size)
        for info in members:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.flag_bits & 1:
                raise ValueError(f"{path}: {info.filename} is encrypted. Decrypt the archive first")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise ValueError(f"{path}: {info.filename} is a link or a device. Do not trust this archive")
            _add(path, info.orig_filename, None if info.is_dir() else info, files, folders)

        def copy(info, target):
            with archive.open(info) as source:  # gives info.file_size bytes at most, and checks the CRC
                shutil.copyfileobj(source, target, CHUNK)

        _write(path, folder, files, folders, copy)


def _unpack_tar(path, folder):
    files, folders = {}, set()
    with _TarReader(path) as reader, tarfile.open(fileobj=reader, mode="r:") as archive:
        total = count = 0
        for member in archive:
            count, total = count + 1, total + member.size
            _check_size(path, count, total, math.inf)
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
                raise ValueError(f"{path}: {member.name} is a link or a device. Do not trust this archive")
            _add(path, member.name, None if member.isdir() else member, files, folders)
            if hasattr(tarfile, "data_filter"):  # Python's own rules, a second line; not in 3.11.0 to 3.11.3
                tarfile.data_filter(member, str(folder))
        # tarfile stops at anything that is no header. An end is two blocks of zeros, and tarfile has
        # read the first: else the file was cut, maybe between two members.
        if reader.last + reader.read(512) != bytes(1024):
            raise ValueError(f"{path} is damaged or cut short: its end is missing. Get it again")
        while reader.read(CHUNK):  # to the end, where gzip checks the CRC
            pass
    with _TarReader(path) as reader:

        def copy(member, target):
            reader.seek(member.offset_data)
            for start in range(0, member.size, CHUNK):
                target.write(reader.read(min(CHUNK, member.size - start)))

        _write(path, folder, files, folders, copy)


class _TarReader:
    """A tar file, gzipped or not, that is read once from start to end and never beyond the limits."""

    def __init__(self, path):
        self.path = path
        self.size = path.stat().st_size
        self.position = 0
        self.last = b""
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        self.file = gzip.open(path) if compressed else open(path, "rb")  # noqa: SIM115

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def tell(self):
        return self.position

    def read(self, size):
        if size > MAX_HEADER:
            raise ValueError(f"{self.path}: a header of {size:,} bytes. Do not trust this archive")
        self.last = self.file.read(size)
        self.position += len(self.last)
        _check_size(self.path, 0, self.position, self.size)
        return self.last

    def seek(self, position):
        if position < self.position:
            raise tarfile.ReadError("its headers lead back")
        while self.position < position and self.read(min(CHUNK, position - self.position)):
            pass


def _check_size(path, members, total, compressed):
    """Raises ValueError if there are too many members or they are too large."""
    if members > MAX_MEMBERS:
        raise ValueError(f"{path} holds more than {MAX_MEMBERS:,} files. No BERT has so many")
    if total > MAX_BYTES:
        raise ValueError(f"{path} unpacks to more than {MAX_BYTES:,} bytes. No BERT is so large")
    if total > MAX_RATIO_FROM and total > MAX_RATIO * compressed:
        raise ValueError(f"{path} unpacks to more than {MAX_RATIO} times its size. Do not trust this archive")


def _add(path, name, member, files, folders):
    """Adds a member to `files`, or with `member=None` to `folders`, by its name in the archive.

    Both are keyed by names as a file system sees them that takes upper for lower case.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    windows = "\\" in name or name[1:2] == ":"
    if name.startswith("/") or ".." in parts or windows or "\0" in name or (member and not parts):
        raise ValueError(f"{path}: the name {name!r} leads out of the folder. Do not trust this archive")
    keys = [unicodedata.normalize("NFC", "/".join(parts[: n + 1])).casefold() for n in range(len(parts))]
    above = keys[:-1] if member else keys
    if any(key in files for key in above) or (member and (keys[-1] in files or keys[-1] in folders)):
        raise ValueError(f"{path}: {name!r} is there twice. Do not trust this archive")
    folders.update(above)
    if member:
        files[keys[-1]] = (PurePosixPath(*parts), member)


def _write(path, folder, files, folders, copy):
    """Makes the folder and writes each file with `copy(member, target)`."""
    if not files:
        raise ValueError(f"{path} holds no files. Get it again")
    with whole(folder) as temporary:
        temporary.mkdir()
        for name, member in files.values():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            with open(temporary / name, "xb") as target:
                copy(member, target)
