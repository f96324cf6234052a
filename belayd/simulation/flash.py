"""The image file behind a simulated board's LittleFS.

The file has its full size from the start and is blank as erased flash is; the
interpreter formats it at its first start. Names and contents in it are the
board's own, so nothing on the host reads them.
"""

from __future__ import annotations

from pathlib import Path

NAME = "flash.img"
BLOCK_KIB = 4
LEAST_KIB = 16  # LittleFS keeps two copies of its root and needs room to rewrite


class FlashError(Exception):
    """The image cannot serve; the message says why and what to do."""


def prepare(folder: Path, size_kib: int) -> None:
    """Create the folder's flash image unless it exists.

    Raises:
        FlashError: The size is impossible, or the image has another one.
    """
    if size_kib < LEAST_KIB or size_kib % BLOCK_KIB:
        raise FlashError(
            f"a flash of {size_kib} KiB: must be a multiple of {BLOCK_KIB}, at least {LEAST_KIB}"
        )
    image = folder / NAME
    if not image.exists():
        image.write_bytes(b"\xff" * (size_kib * 1024))
        return
    present = image.stat().st_size // 1024
    if present != size_kib:
        raise FlashError(f"{image} holds {present} KiB, not {size_kib}: remove it, or keep its size")
