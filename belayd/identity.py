"""Who a board is by its inventory entry, and whether the one that answers is that one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from belayd.errors import LeaseRequired, WrongBoard
from belayd.snapshot import Facts


@dataclass(frozen=True, slots=True)
class Identity:
    """A board as the inventory, or an adopt rule, names it.

    Attributes:
        transport: The kind of link: usb, serial, webrepl, tcp, simulated.
        unique_id: Hexadecimal, None where any board will do.
        passive: Whether its own program is left alone outside leases.
    """

    name: str
    transport: str
    labels: Mapping[str, str]
    unique_id: str | None
    passive: bool = False

    def refuse_stranger(self, facts: Facts) -> None:
        """Raise WrongBoard if the board that answers is another one."""
        if self.unique_id is not None and facts.unique_id != self.unique_id.lower():
            raise WrongBoard(
                f"board {self.name!r} answers with unique_id {facts.unique_id or 'none'} "
                f"but the inventory says {self.unique_id}: plug in the right one or mend the entry",
                board=self.name,
                unique_id=facts.unique_id or "",
                expected=self.unique_id,
            )

    def refuse_interruption(self, fence: int | None) -> None:
        """Raise LeaseRequired for work without a lease on a board whose own program goes on without one."""
        if self.passive and fence is None:
            raise LeaseRequired(
                f"board {self.name!r} runs its own program, which is interrupted only under a lease: acquire one",
                board=self.name,
            )
