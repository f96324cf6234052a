"""WebREPL's file records: what a client puts and gets past the prompt.

Served while any program runs, since the board does it inside its terminal's read.
The offset and the name's length are ignored, names end at a NUL.
Source: MicroPython's extmod/modwebrepl.c.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from typing import BinaryIO

_REQUEST = struct.Struct("<2sBBQLH64s")
_PUT, _GET, _VERSION = 1, 2, 3
_DONE = b"WB\0\0"
_BLOCK_BYTES = 256
_MICROPYTHON = bytes((1, 29, 0))


class RecordFailed(Exception):
    """The board's code raised inside its terminal's read, which ends the connection."""


class Records:
    """One connection's file records, on the board's folder.

    `folder` is None where files lie in a flash image, which only the interpreter
    reads: then every file is missing.
    """

    __slots__ = ("_file", "_folder", "_getting", "_left", "_request")

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._request = bytearray()
        self._file: BinaryIO | None = None
        self._left = 0
        self._getting = False

    def receive(self, data: bytes) -> list[bytes]:
        """Take the payload of a binary frame; return the payloads to answer with.

        Raises:
            RecordFailed: There is no such file or folder.
        """
        answers: list[bytes] = []
        while data:
            if self._file is None:
                need = _REQUEST.size - len(self._request)
                self._request += data[:need]
                data = data[need:]
                if len(self._request) == _REQUEST.size:
                    answers += self._begin(bytes(self._request))
                    self._request.clear()
            elif self._getting:
                data = data[1:]
                block = self._file.read(_BLOCK_BYTES)
                answers.append(struct.pack("<H", len(block)) + block)
                if not block:
                    answers.append(self._finish())
            else:
                content, data = data[: self._left], data[self._left :]
                with contextlib.suppress(OSError):  # a full filesystem: a board says nothing
                    self._file.write(content)
                self._left -= len(content)
                if not self._left:
                    answers.append(self._finish())
        return answers

    def close(self) -> None:
        """Let go of a file in the middle."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self, request: bytes) -> list[bytes]:
        mark, operation, _, _, size, _, name = _REQUEST.unpack(request)
        if mark != b"WA":
            raise RecordFailed("OSError: [Errno 22] EINVAL")
        if operation == _VERSION:
            return [_MICROPYTHON]
        try:
            path = self._path(name.split(b"\0")[0])
            self._file = path.open("wb" if operation == _PUT else "rb", buffering=0)
        except OSError as error:
            raise RecordFailed(f"OSError: [Errno {error.errno}] {error.strerror}") from error
        self._getting = operation != _PUT
        self._left = size
        if self._getting or size:
            return [_DONE]
        return [_DONE, self._finish()]

    def _path(self, name: bytes) -> Path:
        if self._folder is None:
            raise FileNotFoundError(2, "ENOENT")
        inside = os.path.normpath("/" + os.fsdecode(name)).lstrip("/")
        return self._folder / inside

    def _finish(self) -> bytes:
        self.close()
        return _DONE
