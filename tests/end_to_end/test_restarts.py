"""What a kill of the daemon leaves: leases as they were, boards clean, and clients that need do nothing."""

from __future__ import annotations

import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable

import pytest

from belayd_client import BoardLeased, InternalError, LeaseLost

FOREVER = "print('begun')\nwhile True: pass\n"


def ready(daemon) -> bool:
    return all(board.state.value == "ready" for board in daemon.client.boards())


def test_every_lease_outlives_a_kill_as_it_was(daemon, sim, until: Callable[..., None]) -> None:
    before = daemon({"sim-1": sim, "sim-2": sim, "sim-3": sim})
    ann = before.connect("ann@desk")
    ann.acquire("sim-2", ttl=60).release()
    leases = {name: ann.acquire(name, ttl=60, reason="night run") for name in ("sim-1", "sim-2")}
    ann.run("sim-1", "kept = 1", lease=leases["sim-1"])

    before.kill()
    after = before.again()

    found = {lease.board: lease for lease in after.client.leases()}
    assert {name: (lease.name, lease.fence) for name, lease in leases.items()} == {
        name: (lease.name, lease.fence) for name, lease in found.items()
    }
    assert {(lease.holder, lease.reason, lease.ttl) for lease in found.values()} == {
        ("ann@desk", "night run", 60.0)
    }
    assert [found[name].since for name in leases] == [lease.record.since for lease in leases.values()]
    until(lambda: ready(after))
    with pytest.raises(BoardLeased):
        after.client.evaluate("sim-1", "1")
    for name, lease in leases.items():
        lease.renew()
        assert ann.evaluate(name, "6 * 7", lease=lease) == 42
        lease.release()
    with after.client.acquire("sim-2", ttl=60) as following:
        assert following.fence == leases["sim-2"].fence + 1


def test_tokens_are_nowhere_in_the_state_folder(daemon, sim) -> None:
    lab = daemon({"sim-1": sim})
    lease = lab.client.acquire("sim-1", ttl=60)
    lab.kill()

    files = [path for path in (lab.folder / "state").iterdir() if path.is_file()]
    assert {path.name for path in files} >= {"belayd.sqlite", "lock"}
    assert not [path for path in files if lease.token.encode() in path.read_bytes()]
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


def test_a_lease_that_was_released_stays_released(daemon, sim) -> None:
    before = daemon({"sim-1": sim})
    lease = before.client.acquire("sim-1", ttl=60)
    lease.release()

    before.kill()
    after = before.again()

    assert after.client.leases() == []
    with pytest.raises(LeaseLost):
        after.client.lease(lease.token)


def test_the_clients_own_renewals_carry_a_lease_over_a_restart(
    daemon, sim, until: Callable[..., None]
) -> None:
    before = daemon({"sim-1": sim})
    losses: list[LeaseLost] = []
    lease = before.client.acquire("sim-1", ttl=12).keep(losses.append)

    before.kill()
    time.sleep(4.2)  # how long the daemon is away: the renewal after 4 s fails and is tried again
    after = before.again()
    [revived] = after.client.leases()
    until(lambda: [each for each in after.client.leases() if each.expires > revived.expires])

    assert losses == []
    until(lambda: ready(after))
    assert after.client.evaluate("sim-1", "6 * 7", lease=lease) == 42
    assert after.client.leases()[0].fence == lease.fence
    lease.release()
    assert after.client.leases() == []


def test_a_holder_who_is_gone_keeps_its_board_for_one_ttl_after_the_restart(
    daemon, sim, until: Callable[..., None]
) -> None:
    before = daemon({"sim-1": sim})
    before.client.acquire("sim-1", ttl=2)

    before.kill()
    time.sleep(2.1)  # its time passes while nobody can renew it
    after = before.again()

    assert [lease.fence for lease in after.client.leases()] == [1]
    with after.client.acquire("sim-1", ttl=60, wait=30) as following:
        assert following.fence == 2


def test_what_ran_under_a_lease_at_the_kill_is_stopped_and_the_holder_goes_on(
    daemon, simulated_pty, until: Callable[..., None]
) -> None:
    board = simulated_pty("board")
    before = daemon({"bench": {"serial": {"port": str(board.path)}}})
    lease = before.client.acquire("bench", ttl=60)
    begun = threading.Event()
    runner = before.connect("ann@desk")
    failures: list[Exception] = []

    def run() -> None:
        try:
            runner.run("bench", FOREVER, lease=lease, output=lambda data: begun.set(), timeout=60)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(30)
    before.kill()
    thread.join(30)
    after = before.again()

    assert len(failures) == 1
    until(lambda: ready(after))
    assert after.client.evaluate("bench", "6 * 7", lease=lease, timeout=30) == 42


def test_a_board_whose_cleaning_was_cut_short_is_cleaned_after_the_restart(
    daemon, simulated_pty, until: Callable[..., None]
) -> None:
    board = simulated_pty("board")
    before = daemon({"bench": {"serial": {"port": str(board.path)}}})
    lease = before.client.acquire("bench", ttl=60)
    before.client.run("bench", "left_over = 1", lease=lease)
    board.process.send_signal(signal.SIGSTOP)  # the board answers nothing, its cleaning least of all
    lease.release()
    before.kill()
    board.process.send_signal(signal.SIGCONT)

    after = before.again()

    until(lambda: ready(after))
    with after.client.acquire("bench", ttl=60, wait=30) as following:
        assert after.client.evaluate("bench", "'left_over' in globals()", lease=following) is False
        assert following.fence == 2
    assert after.client.leases() == []


def test_leases_outlive_a_stop_too(daemon, sim, until: Callable[..., None]) -> None:
    before = daemon({"sim-1": sim})
    lease = before.client.acquire("sim-1", ttl=60)

    assert before.stop() == 0
    after = before.again()

    until(lambda: ready(after))
    assert after.client.evaluate("sim-1", "6 * 7", lease=lease) == 42


def test_a_second_daemon_on_the_same_state_is_refused(daemon, sim) -> None:
    lab = daemon({"sim-1": sim})

    with pytest.raises(AssertionError, match=rf"another belayd \(process {lab.process.pid}\) runs on"):
        lab.again()

    assert lab.client.evaluate("sim-1", "6 * 7") == 42


def test_a_damaged_database_stops_the_start_with_one_line_and_is_left_as_it_is(daemon, sim) -> None:
    lab = daemon({"sim-1": sim})
    assert lab.stop() == 0
    path = lab.folder / "state" / "belayd.sqlite"
    content = bytearray(path.read_bytes())
    content[5000:9000] = bytes(4000)
    path.write_bytes(content)
    (lab.folder / "log").write_text("")

    with pytest.raises(AssertionError, match="is damaged"):
        lab.again()

    assert path.read_bytes() == content
    assert len(lab.log.splitlines()) == 1


def test_a_newer_database_stops_the_start_and_is_left_as_it_is(daemon, sim) -> None:
    lab = daemon({"sim-1": sim})
    assert lab.stop() == 0
    path = lab.folder / "state" / "belayd.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = 999 WHERE key = 'schema'")
    connection.commit()
    connection.close()
    content = path.read_bytes()

    with pytest.raises(AssertionError, match="is of a newer belayd"):
        lab.again()

    assert path.read_bytes() == content


def test_on_a_full_disk_nothing_new_is_promised_and_what_was_promised_holds(daemon, sim) -> None:
    lab = daemon({"sim-1": sim, "sim-2": sim})
    held = lab.client.acquire("sim-1", ttl=60)
    # No file of the daemon may grow beyond this; the database's log and its own have long done so.
    resource.prlimit(lab.process.pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))

    with pytest.raises(InternalError, match="cannot be written") as refused:
        lab.client.acquire("sim-2", ttl=60)
    with pytest.raises(InternalError):
        held.renew()

    assert refused.value.reason == "STORE_FAILED"
    assert [lease.board for lease in lab.client.leases()] == ["sim-1"]
    assert lab.client.evaluate("sim-1", "6 * 7", lease=held) == 42
    assert lab.client.evaluate("sim-2", "6 * 7") == 42
    resource.prlimit(lab.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    held.renew()
    with lab.client.acquire("sim-2", ttl=60) as later:
        lab.kill()
        after = lab.again()
        assert {lease.name for lease in after.client.leases()} == {held.name, later.name}
