"""A rollout as it goes on: a table that redraws itself on a terminal, a line for each step elsewhere.

Both on stderr. Of more boards than the terminal has lines, those that have failed or
are under way are shown first.
"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from belayd_client.cli.output import fit, note, one_line
from belayd_client.cli.rollout import row

if TYPE_CHECKING:
    from belayd_client.rollouts import Rollout, RolloutBoard

BAR_WIDTH = 24
LEAST_LINES = 4


class Lines:
    """One line for each step of a board and each state of the rollout; none at all if `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._told: dict[str, tuple[str, str]] = {}

    def show(self, rollout: Rollout) -> None:
        """Tell what is new."""
        if self._quiet:
            return
        for board in rollout.boards:
            self._tell(board.board, board.step.value.replace("_", " "), board.message, first="pending")
        self._tell(f"rollout {rollout.name}", rollout.state.value, rollout.state_reason, first="")

    def clear(self) -> None:
        """Do nothing; what was told stays."""

    def _tell(self, what: str, state: str, why: str, *, first: str) -> None:
        before = self._told.get(what, (first, ""))
        self._told[what] = (state, why)
        if before != (state, why) and not (before[0] == state and not why):
            note(f"{what}: {state}" + (f": {why}" if why else ""))


class LiveTable:
    """Draws the rollout over what it drew before."""

    def __init__(self) -> None:
        self._drawn = 0

    def show(self, rollout: Rollout) -> None:
        """Draw it as it is now."""
        size = shutil.get_terminal_size()
        lines = draw(rollout, max(size.columns - 1, 20), max(size.lines - 1, LEAST_LINES))
        self.clear()
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()
        self._drawn = len(lines)

    def clear(self) -> None:
        """Remove what was drawn."""
        if self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}F\x1b[J")
            sys.stderr.flush()
        self._drawn = 0


def draw(rollout: Rollout, columns: int, height: int) -> list[str]:
    """Return a rollout as at most `height` lines of at most so many columns."""
    boards = rollout.boards
    done = sum(board.step.value == "done" for board in boards)
    failed = sum(board.step.value == "failed" for board in boards)
    filled = round(BAR_WIDTH * (done + failed) / len(boards)) if boards else 0
    bar = "#" * filled + "." * (BAR_WIDTH - filled)
    why = f": {rollout.state_reason}" if rollout.state_reason else ""
    head = f"[{bar}] {done}/{len(boards)} done, {failed} failed; rollout {rollout.name} {rollout.state.value}{why}"
    room = height - 1
    shown = list(boards)
    if len(boards) > room:
        chosen = set(sorted(range(len(boards)), key=lambda at: (_rank(boards[at]), at))[: room - 1])
        shown = [board for at, board in enumerate(boards) if at in chosen]
    rows = [tuple(one_line(cell) for cell in row(board)) for board in shown]
    widths = [max((len(cells[at]) for cells in rows), default=0) for at in range(5)]
    lines = [head]
    for cells in rows:
        lines.append(
            "  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)), cells[5]])
        )
    if len(shown) < len(boards):
        lines.append(f"... and {len(boards) - len(shown)} more")
    return [fit(one_line(line), columns).rstrip() for line in lines]


def _rank(board: RolloutBoard) -> int:
    order = ("failed", "rolling_back", "checking", "deploying", "waiting", "done", "pending")
    return order.index(board.step.value) if board.step.value in order else len(order)
