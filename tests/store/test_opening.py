"""What a start does with a state folder it can use, and that it leaves alone what it cannot."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from belayd.store import StoreUnusable
from belayd.store.opening import boot_id, lock, open_database
from belayd.store.schema import MIGRATIONS, migrate

PATIENCE = 60.0


def contents(folder: Path) -> dict[str, bytes]:
    """What the database is made of; its index in shared memory and an empty log are not."""
    found = {path.name: path.read_bytes() for path in folder.glob("belayd.sqlite*")}
    return {name: content for name, content in found.items() if content and not name.endswith("-shm")}


def refuse(folder: Path, match: str) -> None:
    before = contents(folder)
    with pytest.raises(StoreUnusable, match=match) as refused:
        open_database(folder)
    assert contents(folder) == before
    assert "\n" not in str(refused.value)


async def filled(place) -> None:
    store = await place.open()
    for number in range(300):
        store.runs.create(f"run-{number}", "a", "ann", "", bytes(32))
    await store.close()


async def test_an_empty_folder_gets_a_database_for_its_owner_alone(place) -> None:
    old = os.umask(0)
    try:
        await place.open()
    finally:
        os.umask(old)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.folder.iterdir()}
    assert modes == dict.fromkeys(("belayd.sqlite", "belayd.sqlite-shm", "belayd.sqlite-wal", "lock"), 0o600)


async def test_a_file_that_a_kill_left_empty_is_a_new_one(place) -> None:
    place.file.touch()

    store = await place.open()

    assert dict(store.leases.load().leases) == {}


async def test_a_second_store_on_a_folder_is_refused_until_the_first_is_closed(place) -> None:
    store = await place.open()

    with pytest.raises(StoreUnusable, match=rf"another belayd \(process {os.getpid()}\) runs on .*--state"):
        await place.open()
    await store.close()
    await store.close()

    await place.open()


async def test_a_folder_whose_opening_failed_is_free_again(place) -> None:
    place.file.write_bytes(b"no database at all" * 100)
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="is damaged"):
            await place.open()


async def test_a_newer_schema_is_refused(place) -> None:
    await filled(place)
    connection = sqlite3.connect(place.file)
    connection.execute("UPDATE meta SET value = ?", (len(MIGRATIONS) + 1,))
    connection.commit()
    connection.close()

    refuse(
        place.folder, f"newer belayd .schema {len(MIGRATIONS) + 1}, this one knows {len(MIGRATIONS)}.*--state"
    )


async def test_another_programs_database_is_refused(place) -> None:
    connection = sqlite3.connect(place.file)
    connection.execute("CREATE TABLE places (id, url)")
    connection.close()

    refuse(place.folder, "another program's")


@pytest.mark.parametrize(
    ("at", "damage"),
    [(0, b"\xff" * 100), (100, b"\x00" * 3996), (4096 + 1, b"\x7f" * 3000), (-4096, b"\xff" * 4096)],
    ids=["the header", "the schema", "a table", "the last page"],
)
async def test_a_damaged_file_is_refused(place, at: int, damage: bytes) -> None:
    await filled(place)
    content = bytearray(place.file.read_bytes())
    at %= len(content)
    content[at : at + len(damage)] = damage
    place.file.write_bytes(content)

    refuse(place.folder, "is damaged .*put a copy back, or move it away")


async def test_half_a_file_is_refused(place) -> None:
    await filled(place)
    content = place.file.read_bytes()
    place.file.write_bytes(content[: len(content) // 2 // 4096 * 4096])

    refuse(place.folder, "is damaged")


async def test_a_file_without_its_schemas_number_is_refused(place) -> None:
    await filled(place)
    connection = sqlite3.connect(place.file)
    connection.execute("DELETE FROM meta")
    connection.commit()
    connection.close()

    refuse(place.folder, "is damaged .it does not tell its schema")


async def test_what_a_killed_daemon_left_in_the_log_is_there_and_survives_a_refusal(place, tmp_path) -> None:
    store = await place.open()
    store.runs.create("run-1", "a", "ann", "", bytes(32))
    await store.settled()
    killed = tmp_path / "killed"
    killed.mkdir()
    for path in place.folder.glob("belayd.sqlite*"):
        shutil.copy(path, killed)  # as a kill leaves them: no end was written
    assert (killed / "belayd.sqlite-wal").stat().st_size > 0
    connection = sqlite3.connect(f"file:{killed}/belayd.sqlite?mode=ro", uri=True)
    assert connection.execute("SELECT name FROM runs").fetchall() == [("run-1",)]
    connection.close()

    newer = [*MIGRATIONS, ["CREATE TABLE later (x)"]]
    for connection in open_database(killed, newer):
        connection.close()

    refuse(killed, "newer")


# Root may write anything; without this right it is as everybody else.
UNPRIVILEGED = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 1)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
OPEN = """
import asyncio, resource, sys
from pathlib import Path
from belayd.store import Store, StoreUnusable

async def main():
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
    try:
        store = await Store.open(Path(sys.argv[1]))
    except StoreUnusable as error:
        print("refused:", error)
    else:
        await store.close()
        print("opened")

asyncio.run(main())
"""


def open_elsewhere(folder: Path, *words: str) -> str:
    """Open the store in a process without root's right to write anything."""
    command = [sys.executable, "-c", UNPRIVILEGED, "-c", OPEN, str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout


async def test_a_file_that_cannot_be_written_is_refused(place) -> None:
    await filled(place)
    assert open_elsewhere(place.folder) == "opened\n"
    place.file.chmod(0o400)
    place.folder.chmod(0o500)
    before = contents(place.folder)
    try:
        told = open_elsewhere(place.folder)
    finally:
        place.folder.chmod(0o700)

    assert told.startswith(f"refused: {place.file} cannot be written: ")
    assert "--state" in told
    assert contents(place.folder) == before


async def test_a_full_disk_is_refused(place) -> None:
    await filled(place)
    before = contents(place.folder)

    told = open_elsewhere(place.folder, "100")

    assert told.startswith(f"refused: {place.file} cannot be written: ")
    assert "make room" in told
    assert contents(place.folder)["belayd.sqlite"] == before["belayd.sqlite"]
    assert open_elsewhere(place.folder) == "opened\n"


def test_a_lock_is_not_inherited_by_the_boards_that_the_daemon_starts(tmp_path) -> None:
    descriptor = lock(tmp_path)
    command = [sys.executable, "-c", "input('up')"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False)
    assert child.stdout is not None
    assert child.stdout.read(2) == b"up"
    os.close(descriptor)

    os.close(lock(tmp_path))

    child.communicate(b"\n", timeout=PATIENCE)


def test_migrations_run_once_in_order_and_a_failing_one_changes_nothing(tmp_path) -> None:
    steps = [["CREATE TABLE t (a)"], ["ALTER TABLE t ADD COLUMN b", "INSERT INTO t VALUES (1, 2)"]]
    connection = sqlite3.connect(tmp_path / "x", isolation_level=None)

    def seen() -> list[tuple[object, ...]]:
        return [
            *connection.execute("SELECT value FROM meta"),
            *connection.execute("SELECT name FROM pragma_table_info('t')"),
            *connection.execute("SELECT * FROM t"),
        ]

    migrate(connection, steps[:1])
    assert seen() == [(1,), ("a",)]
    migrate(connection, steps)
    migrate(connection, steps)
    assert seen() == [(2,), ("a",), ("b",), (1, 2)]
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, [*steps, ["DROP TABLE t", "DROP TABLE nothing"]])
    assert seen() == [(2,), ("a",), ("b",), (1, 2)]
    connection.close()


def test_the_present_boot_has_one_name() -> None:
    assert boot_id() == boot_id() != ""
