"""Who a board is by its inventory entry, and whether the one that answers is that one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from belayd.errors import WrongBoard
from belayd.snapshot import Facts


@dataclass(frozen=True, slots=True)
class Identity:
    """A board as the inventory, or an adopt rule, names it.

    Attributes:
        transport: The kind of link: usb, serial, webrepl, tcp, simulated.
        unique_id: Hexadecimal, None where any board will do.
    """

    name: str
    transport: str
    labels: Mapping[str, str]
    unique_id: str | None

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
