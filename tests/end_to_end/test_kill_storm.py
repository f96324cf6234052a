"""Kill -9 in the middle of a storm, again and again: nobody else ever writes, and no lease is lost.

The boards are processes of their own, so that what was written on them outlives every
daemon. Each run appends its lease's fence to a file of its board, several times over
some milliseconds: two holders at once would leave a lower fence after a higher one.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from belayd_client import BelaydError, Client, ConnectionFailed, LeaseLost
from belayd_client.lease import Lease

CLIENTS = 20
BOARDS = 4
KILLS = 20
TTL = 5.0  # seconds; more than a daemon is away
RUNS_BETWEEN = 10  # runs that end, at least, from a restart to the next kill
PAUSE = 0.02  # seconds between two attempts while the daemon is away
WRITE = """
import time
f = open('fences', 'a')
for _ in range(8):
    f.write('{fence} {client}\\n')
    f.flush()
    time.sleep_ms(5)
f.close()
"""


@dataclass
class Tally:
    """What all clients saw; each entry is made by one append."""

    grants: list[tuple[str, int, int]] = field(default_factory=list)
    runs: list[float] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


class Caller:
    """One client: acquires any board, renews, writes its fence there, releases; over and over."""

    def __init__(self, number: int, client: Client, tally: Tally, enough: threading.Event) -> None:
        self._number = number
        self._client = client
        self._tally = tally
        self._enough = enough
        self._confirmed = 0.0

    def work(self) -> None:
        while not self._enough.is_set():
            try:
                lease = self._client.acquire(selector="lab=storm", ttl=TTL, wait=TTL)
            except BelaydError:
                self._enough.wait(PAUSE)
                continue
            self._confirmed = time.monotonic() - 0.5  # it was granted a little earlier
            self._tally.grants.append((lease.board, lease.fence, self._number))
            self._use(lease)

    def _use(self, lease: Lease) -> None:
        source = WRITE.format(fence=lease.fence, client=self._number)
        try:
            self._renew(lease)
            self._client.run(lease.board, source, lease=lease, timeout=TTL)
            self._tally.runs.append(time.monotonic())
        except ConnectionFailed:
            if self._renew(lease):
                self._tally.carried.append(lease.name)
        except BelaydError:  # the board was not back yet, say
            self._renew(lease)
        self._release(lease)

    def _renew(self, lease: Lease) -> bool:
        """Renew until the daemon is back; note a lease that it does not know before its time."""
        while True:
            began = time.monotonic()
            try:
                lease.renew()
            except LeaseLost as error:
                if began < self._confirmed + TTL:
                    self._tally.lost.append(f"{lease!r} of {self._number}: {error.message}")
                return False
            except BelaydError:
                time.sleep(PAUSE)
            else:
                self._confirmed = began
                return True

    def _release(self, lease: Lease) -> None:
        while True:
            try:
                self._client.release(lease.token)
            except LeaseLost:
                return
            except BelaydError:
                time.sleep(PAUSE)
            else:
                return


@pytest.mark.timeout(300)
def test_no_board_has_two_writers_and_no_lease_is_lost(
    daemon, simulated_pty, until: Callable[..., None]
) -> None:
    boards = {f"b-{number}": simulated_pty(f"b-{number}") for number in range(BOARDS)}
    inventory: dict[str, Any] = {
        name: {"serial": {"port": str(board.path)}, "labels": {"lab": "storm"}}
        for name, board in boards.items()
    }
    lab = daemon(inventory)
    tally, enough = Tally(), threading.Event()
    chance = random.Random(7)
    away: list[float] = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        callers = [
            Caller(number, lab.connect(f"caller {number}"), tally, enough) for number in range(CLIENTS)
        ]
        working = [pool.submit(caller.work) for caller in callers]
        try:
            for _ in range(KILLS):
                before = len(tally.runs)
                until(lambda before=before: len(tally.runs) >= before + RUNS_BETWEEN, "runs go on")
                time.sleep(chance.uniform(0.0, 0.1))  # the kill may come at any moment
                lab.kill()
                lab = lab.again()
                away.append(lab.started_in)
            last = len(tally.runs)
            until(lambda: len(tally.runs) >= last + RUNS_BETWEEN, "runs go on")
        finally:
            enough.set()
        for each in working:
            each.result(60)

    assert tally.lost == []
    given = {(board, fence): number for board, fence, number in tally.grants}
    assert len(given) == len(tally.grants)  # no fence was given twice
    written = {name: (board.folder / "fences").read_text().splitlines() for name, board in boards.items()}
    for name, lines in written.items():
        fences = [int(line.split()[0]) for line in lines]
        assert fences == sorted(fences), name
        writers = {(int(line.split()[0]), int(line.split()[1])) for line in lines}
        assert all(given[name, fence] == number for fence, number in writers)
    assert len(tally.carried) >= KILLS // 4  # leases that were in use at a kill and went on after it
    assert len(tally.runs) > KILLS * RUNS_BETWEEN
    assert min(away) < 2.0  # how it is on a machine that does nothing else
    print(
        f"back after {[round(each, 2) for each in sorted(away)]} s; {len(tally.grants)} grants, "
        f"{len(tally.runs)} runs, {len(tally.carried)} leases carried over a kill in use"
    )
