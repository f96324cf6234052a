"""Whether a link comes and goes too often to be of use."""

from __future__ import annotations

from belayd.errors import BoardQuarantined

STEADY = 5.0
"""Seconds after which a link that was lost is opened again at once."""
LOSSES = 6
"""Short lives in a row that are too many."""
PROBATION = 30.0
"""Seconds for which a link must then last before its board is used again."""


class Flapping:
    """Counts the short lives of one board's link.

    A link that was lost while a job ran is not counted: what runs may reset the board.
    """

    def __init__(self, steady: float = STEADY, losses: int = LOSSES, probation: float = PROBATION) -> None:
        self.steady = steady
        self.probation = probation
        self._losses = losses
        self._short_lives = 0

    def lost(self, lived: float) -> None:
        """Note that the link was lost by itself after `lived` seconds."""
        self._short_lives = 0 if lived > self.probation else self._short_lives + (lived <= self.steady)

    def forgive(self) -> None:
        """Start anew: it has lasted."""
        self._short_lives = 0

    @property
    def too_often(self) -> bool:
        """Whether the board must not be used until its link has lasted."""
        return self._short_lives >= self._losses

    def fault(self, board: str) -> BoardQuarantined:
        """Return what keeps the board in quarantine."""
        return BoardQuarantined(
            f"its link was lost {self._short_lives} times in a row, each within {self.steady:g} s: "
            f"check its cable, its power and whether its program resets it; used again once it has "
            f"lasted {self.probation:g} s",
            board=board,
            cause="flapping",
        )
