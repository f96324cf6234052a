from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from belayd.simulation import flash

Simulated = Callable[..., Any]

PATIENCE = 30.0


def test_a_board_with_flash_has_its_size_and_keeps_files_over_a_reset(simulated: Simulated) -> None:
    board = simulated("--flash", "64")
    board.wire.enter_raw()

    assert (
        board.wire.run(b"import os; print(os.statvfs('/')[:4], os.listdir())") == b"(4096, 4096, 16, 14) []\n"
    )
    board.wire.run(b"f = open('a.txt', 'w'); f.write('abc'); f.close()")
    board.wire.send(b"\x04")
    board.wire.until(board.wire.raw_prompt)

    assert board.wire.run(b"import os; print(list(os.ilistdir()))") == b"[('a.txt', 32768, 0, 3)]\n"


def test_a_file_that_does_not_fit_is_refused_by_the_board(simulated: Simulated) -> None:
    board = simulated("--flash", "64")
    board.wire.enter_raw()

    shown = board.wire.run(b"f = open('big', 'wb')\nfor i in range(100): f.write(bytes(1024))")
    board.wire.run(b"f.close()")

    assert shown.endswith(b"OSError: 28\n") or b"ENOSPC" in shown
    assert board.wire.run(b"print(1)") == b"1\n"


def test_boot_and_main_run_from_flash(simulated: Simulated) -> None:
    board = simulated("--flash", "64")
    board.wire.enter_raw()
    board.wire.run(
        b"for n in ('boot', 'main'):\n f = open(n + '.py', 'w'); f.write('print(\"%s\")' % n); f.close()"
    )

    board.wire.send(b"\x02")
    board.wire.until(b">>> ")
    board.wire.send(b"\x04")

    assert b"\nboot\nmain\n" in board.wire.until(b">>> ")


def test_an_image_is_made_once_and_kept(tmp_path: Path) -> None:
    flash.prepare(tmp_path, 16)
    image = tmp_path / flash.NAME
    assert image.read_bytes() == b"\xff" * 16384
    image.write_bytes(b"\x00" * 16384)

    flash.prepare(tmp_path, 16)

    assert image.read_bytes() == b"\x00" * 16384


def test_an_image_of_another_size_is_refused_and_kept(tmp_path: Path) -> None:
    flash.prepare(tmp_path, 16)

    with pytest.raises(flash.FlashError, match="holds 16 KiB, not 32"):
        flash.prepare(tmp_path, 32)

    assert (tmp_path / flash.NAME).stat().st_size == 16384


@pytest.mark.parametrize("size", [0, 12, 30])
def test_an_impossible_size_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(flash.FlashError, match="multiple of 4, at least 16"):
        flash.prepare(tmp_path, size)
