"""Arrays in `.npz` and `.npy` files, read without taking more memory than they declare.

A few bytes of a file can stand for many gigabytes. So sizes are compared first: what the archive's
directory, the array's header and the reader say. Only then memory is taken, for one array at a
time, and never more than that.
"""

import io
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LARGEST_HEADER = 10_000
"""Bytes of an array's header, the longest that numpy takes."""
PIECE = 1 << 20
"""Bytes that are decompressed at once."""
SUFFIX = ".npy"
SHOWN_LENGTH = 40
"""Characters of a wrong name that an error shows."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those of numpy; of others, zipfile decompresses more at once than it is asked for."""
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)
"""What zipfile and numpy raise when bytes are wrong or missing."""


class ArchiveError(ValueError):
    """A file does not hold what it should; the text names the array, but not the file."""


class TooLargeError(ArchiveError):
    """Arrays would take more memory than they may."""


@dataclass(frozen=True)
class Header:
    """What an array says of itself.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    is_fortran : bool
        Whether the first index runs fastest.
    offset : int
        Bytes before the first value.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool
    offset: int

    @property
    def n_bytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """An `.npz` file: nothing but its directory is read before it is asked for an array.

    Parameters
    ----------
    file : binary file
        Stays open as long as arrays are read.

    Raises
    ------
    ArchiveError
        The file is no archive, or has two arrays of one name.
    """

    def __init__(self, file: IO[bytes]) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except DAMAGED as error:
            raise ArchiveError(f"must be an .npz file, cut or damaged? ({error})") from None
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in self._zip.infolist():
            name = member.filename.removesuffix(SUFFIX)
            if name in self._members:
                raise ArchiveError(f"array {_shown(name)} must be there once, not twice")
            self._members[name] = member

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays' names, without `.npy`, in the order of the directory."""
        return tuple(self._members)

    def check_size(self, names: Iterable[str], largest: int) -> None:
        """Refuse arrays that take more than `largest` bytes together; unknown names take none.

        Raises
        ------
        TooLargeError
        """
        known = [name for name in names if name in self._members]
        total = sum(self._members[name].file_size for name in known)
        if total > largest:
            what = f"array {_shown(known[0])}" if len(known) == 1 else "arrays"
            raise TooLargeError(f"{what} must be at most {largest:,} bytes, not {total:,}")

    def header(self, name: str) -> Header:
        """Shape and type of an array, which agree with its size; nothing else is read.

        Raises
        ------
        ArchiveError
        """
        try:
            with self._open(name) as stream:
                return _header(stream, self._members[name].file_size)[0]
        except DAMAGED as error:
            raise _named(name, error) from None

    def read(self, name: str) -> Array:
        """An array, after its checksum has been compared.

        Raises
        ------
        ArchiveError
        """
        try:
            with self._open(name) as stream:
                return _array(stream, self._members[name].file_size)
        except DAMAGED as error:
            raise _named(name, error) from None

    def _open(self, name: str) -> IO[bytes]:
        member = self._members[name]
        if member.compress_type not in METHODS:
            raise ArchiveError(
                f"must be stored or deflated, not compressed by method {member.compress_type}"
            )
        return self._zip.open(member)


def read_array(file: IO[bytes]) -> Array:
    """The array of an `.npy` file.

    Raises
    ------
    ArchiveError
        The file holds something else, or its length is not that of its header's array.
    """
    try:
        n_bytes = file.seek(0, io.SEEK_END)
        file.seek(0)
        return _array(file, n_bytes)
    except ArchiveError:
        raise
    except DAMAGED as error:
        raise ArchiveError(_damage(error)) from None


def _named(name: str, error: Exception) -> ArchiveError:
    if isinstance(error, ArchiveError):
        return type(error)(f"array {_shown(name)} {error}")
    return ArchiveError(f"array {_shown(name)} is damaged ({_first_line(error)})")


def _damage(error: Exception) -> str:
    return f"must be in numpy's .npy format, cut or damaged? ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _shown(name: str) -> str:
    return repr(name if len(name) <= SHOWN_LENGTH else f"{name[: SHOWN_LENGTH - 3]}...")


def _header(stream: IO[bytes], n_bytes: int) -> tuple[Header, bytes]:
    """The header of an array of `n_bytes` in all, and what was read behind it."""
    start = stream.read(LARGEST_HEADER + len(np.lib.format.MAGIC_PREFIX) + 6)
    if start.startswith(b"PK"):
        raise ArchiveError("must be in numpy's .npy format, one array, not an archive")
    text = io.BytesIO(start)
    try:
        version = np.lib.format.read_magic(text)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"version must be 1.0 or 2.0, not {version[0]}.{version[1]}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # headers that Python 2 wrote are fine
            shape, is_fortran, dtype = readers[version](text, max_header_size=LARGEST_HEADER)
    except (*DAMAGED, MemoryError) as error:  # Python's parser of a header that is nested deeply
        raise ArchiveError(_damage(error)) from None
    header = Header(shape, dtype, is_fortran, text.tell())
    if dtype.hasobject:
        raise ArchiveError("must be in numpy's .npy format, numbers or text, not Python objects")
    if min(shape, default=0) < 0 or header.offset + header.n_bytes != n_bytes:
        array = f"{_shown_shape(shape)} of {dtype}"
        raise ArchiveError(
            f"must be {header.n_bytes:,} bytes behind its header, {array}, "
            f"not {n_bytes - header.offset:,}"
        )
    return header, start[header.offset :]


def _shown_shape(shape: tuple[int, ...]) -> str:
    text = str(shape)
    return text if len(text) <= SHOWN_LENGTH else f"{len(shape)} dimensions"


def _array(stream: IO[bytes], n_bytes: int) -> Array:
    header, start = _header(stream, n_bytes)
    values = np.empty(header.n_bytes, np.uint8)
    view = values.data
    view[: len(start)] = start
    done = len(start)
    while done < header.n_bytes:
        piece = stream.read(min(PIECE, header.n_bytes - done))
        if not piece:
            raise ArchiveError(f"must be {header.n_bytes:,} bytes behind its header, not {done:,}")
        view[done : done + len(piece)] = piece
        done += len(piece)
    try:
        return np.ndarray(header.shape, header.dtype, view, order="F" if header.is_fortran else "C")
    except DAMAGED as error:
        raise ArchiveError(_damage(error)) from None
