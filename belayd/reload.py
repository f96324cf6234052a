"""The inventory read again while the daemon runs: the difference shown, or applied.

All or nothing: a file with one mistake changes nothing. Boards that the difference
does not touch notice nothing of a reload, nor do their leases and jobs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from belayd.difference import Change, Kind, compare
from belayd.discovery import Discovery
from belayd.errors import RequestInvalid
from belayd.fleet import Fleet
from belayd.inventory import Inventory, InventoryError, load
from belayd.leasing import Leasing

log = logging.getLogger(__name__)

MOST_TOLD = 16
"""Mistakes that an error carries; a status travels in trailers, of which clients take 8 KiB."""
MOST_CHARACTERS = 160


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload changed, or would; `warnings` are of the file as it is now."""

    changes: tuple[Change, ...]
    warnings: tuple[str, ...]


class Reload:
    """Reads one daemon's inventory again, each time it is asked to.

    Args:
        started: What the daemon started with.
        refuse: Says why an inventory that is right in itself cannot be served by this daemon.
        show_labels: Takes the inventory's metric_labels.
        tell: Told how each reload ended, "ok" or "failed", and when; of a dry run nothing.
    """

    def __init__(
        self,
        started: Inventory,
        fleet: Fleet,
        discovery: Discovery,
        leasing: Leasing,
        *,
        refuse: Callable[[Inventory], Sequence[str]] = lambda inventory: (),
        show_labels: Callable[[tuple[str, ...]], None] = lambda labels: None,
        tell: Callable[[str, datetime], None] = lambda outcome, at: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._started = self._current = started
        self._fleet = fleet
        self._discovery = discovery
        self._leasing = leasing
        self._refuse = refuse
        self._show_labels = show_labels
        self._tell = tell
        self._now = now
        self._one_at_a_time = asyncio.Lock()

    async def reload(self, by: str, dry_run: bool = False) -> Reloaded:
        """Read the file and apply what differs; `dry_run` only tells.

        Raises:
            RequestInvalid: The file cannot be used; nothing changed. Its fields
                problem_1, problem_2, ... say what is wrong, each with file and line;
                "problems" is how many there are.
        """
        async with self._one_at_a_time:
            try:
                inventory = await self._read()
            except RequestInvalid:
                if not dry_run:
                    self._tell("failed", self._now())
                raise
            changes = compare(self._current, inventory, self._started, self._holder)
            if not dry_run:
                self._apply(inventory, changes)
                self._tell("ok", self._now())
                log.info("the inventory was reloaded by %s: %d changes", by, len(changes))
            return Reloaded(changes, tuple(map(str, inventory.warnings)))

    async def _read(self) -> Inventory:
        path = self._current.path
        try:
            inventory = await asyncio.to_thread(load, path)
        except InventoryError as error:
            raise _invalid(str(path), [str(problem) for problem in error.problems]) from error
        if refusals := self._refuse(inventory):
            raise _invalid(str(path), [f"{path}: {refusal}" for refusal in refusals])
        return inventory

    def _holder(self, board: str) -> str:
        view = self._leasing.view(board)
        return view.holder if view else ""

    def _apply(self, inventory: Inventory, changes: Sequence[Change]) -> None:
        kinds = {change.board: change.kind for change in changes if change.board}
        for change in changes:
            log.info("inventory: %s %s %s", change.key, change.kind.value, "; ".join(change.details))
        for name, kind in kinds.items():
            # One that is added may have been adopted under this name until now.
            if kind in (Kind.REMOVED, Kind.REPLACED) or (kind is Kind.ADDED and name in self._fleet):
                self._fleet.remove(name)
        new = (Kind.ADDED, Kind.REPLACED)
        self._fleet.add(spec for name, spec in inventory.boards.items() if kinds.get(name) in new)
        for name, kind in kinds.items():
            if kind is Kind.CHANGED:
                self._fleet.change(inventory.boards[name])
        self._discovery.update(inventory.boards.values(), inventory.adopt)
        server = inventory.server
        self._leasing.limit(server.max_hold, server.idle, server.per_user)
        self._show_labels(server.metric_labels)
        self._current = inventory


def _invalid(path: str, problems: Sequence[str]) -> RequestInvalid:
    for problem in problems:
        log.error("the inventory was not reloaded: %s", problem)
    told = {f"problem_{number}": text for number, text in enumerate(problems[:MOST_TOLD], 1)}
    told = {
        name: text[: MOST_CHARACTERS - 1] + "…" if len(text) > MOST_CHARACTERS else text
        for name, text in told.items()
    }
    count = f"{len(problems)} mistakes" if len(problems) > 1 else "a mistake"
    return RequestInvalid(
        f"the inventory has {count}, and nothing was changed; `belayd check {path}` tells all: {problems[0]}",
        field="inventory",
        problems=len(problems),
        **told,
    )
