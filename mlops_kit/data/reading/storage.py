"""Files to read: local ones, globs and fsspec URLs, also compressed."""

from __future__ import annotations

import glob
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import LazyModule

fsspec = LazyModule("fsspec")

COMPRESSION_ENDINGS = (".gz", ".bz2", ".xz", ".zip", ".zst")
_GLOB_CHARACTERS = "*?["


def is_url(location: str) -> bool:
    """Return whether a location is a URL, not a local path."""
    return "://" in location


def is_glob(location: str) -> bool:
    """Return whether a location is a glob pattern."""
    return any(character in location for character in _GLOB_CHARACTERS)


def remove_compression_ending(location: str) -> str:
    """Return a location without the ending of a compressed file.

    >>> remove_compression_ending("rows.csv.gz")
    'rows.csv'
    """
    for ending in COMPRESSION_ENDINGS:
        if location.lower().endswith(ending):
            return location[: -len(ending)]
    return location


def list_files(location: str) -> list[str]:
    """Return the files at a path, pattern or URL, sorted by name.

    Raises
    ------
    FileNotFoundError
        If a pattern matches nothing.
    """
    if not is_glob(location):
        return [location]
    if not is_url(location):
        files = sorted(glob.glob(location))
    else:
        filesystem, path = fsspec.core.url_to_fs(location)
        files = [filesystem.unstrip_protocol(match) for match in sorted(filesystem.glob(path))]
    if not files:
        raise FileNotFoundError(location)
    return files


@contextmanager
def open_binary(location: str) -> Iterator[IO[bytes]]:
    """Open a file for reading; a compressed one is decompressed.

    Raises
    ------
    ValueError
        If a compressed file is damaged.
    """
    try:
        with _open_stored(location) as stored, _decompress(stored, location) as stream:
            yield stream
    except _list_compression_errors() as error:
        raise ValueError(f"the compressed file is damaged ({error})") from error


def _list_compression_errors() -> tuple[type[Exception], ...]:
    """Return the errors by which the standard library reports damaged files."""
    import gzip
    import lzma
    import zipfile
    import zlib

    return EOFError, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile, zlib.error


def _open_stored(location: str) -> Any:
    """Open a file as it is stored."""
    if is_url(location):
        return fsspec.open(location, "rb")
    return open(location, "rb")


def _decompress(stored: Any, location: str) -> Any:
    """Return a stream of the decompressed content."""
    ending = location.lower().rpartition(".")[2]
    if ending == "gz":
        import gzip

        return gzip.open(stored, "rb")
    if ending == "bz2":
        import bz2

        return bz2.open(stored, "rb")
    if ending == "xz":
        import lzma

        return lzma.open(stored, "rb")
    if ending == "zst":
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), "zstd")
    if ending == "zip":
        return _open_zip_member(stored, location)
    return io.BufferedReader(stored) if isinstance(stored, io.RawIOBase) else stored


def _open_zip_member(stored: Any, location: str) -> Any:
    """Open the only file of a zip archive.

    Raises
    ------
    KitError
        If it has none or several.
    """
    import zipfile

    archive = zipfile.ZipFile(stored)
    members = [
        name for name in archive.namelist() if not name.endswith("/") and "__MACOSX/" not in name
    ]
    if len(members) != 1:
        listed = ", ".join(members[:5]) or "nothing"
        raise KitError(
            f"{location} contains {len(members)} files: {listed}",
            "an archive with one file",
            "extract the file to read",
        )
    return archive.open(members[0])


def read_sample(location: str, size: int) -> tuple[bytes, bool]:
    """Return the beginning of a file, and whether it is the whole file."""
    with open_binary(location) as stream:
        sample = stream.read(size + 1)
        while len(sample) <= size:
            more = stream.read(size + 1 - len(sample))
            if not more:
                return sample, True
            sample += more
    return sample[:size], False


def read_chunks(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield the content of a stream in pieces."""
    while True:
        chunk = stream.read(size)
        if not chunk:
            return
        yield chunk
