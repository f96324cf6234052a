"""What was wanted of a deployment and what was reached, one JSON line for each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Goal:
    """One row of what was to be reached.

    Attributes:
        measure: What was measured, and on which board.
        wanted: In words.
        reached: belayd's figure.
        met: Whether it is what was wanted; None where nothing was wanted of this figure.
        others: The same figure of the others, by name.
    """

    measure: str
    wanted: str
    reached: float
    met: bool | None
    others: dict[str, float] = field(default_factory=dict)


def at_most(measure: str, most: float, reached: float, others: dict[str, float] | None = None) -> Goal:
    """Return a goal that is met by a figure no larger than `most`."""
    return Goal(measure, f"at most {most:g}", reached, reached <= most, others or {})


def at_least(measure: str, least: float, ratios: dict[str, float]) -> Goal:
    """Return a goal of times: `ratios` says how many times as long each other took; the smallest one counts."""
    worst = min(ratios.values())
    return Goal(measure, f"at least {least:g} times as fast as each", worst, worst >= least, ratios)


def print_goals(goals: Sequence[Goal]) -> None:
    """Print a JSON line for each."""
    for goal in goals:
        row = asdict(goal)
        row["reached"] = round(goal.reached, 3)
        row["others"] = {name: round(value, 3) for name, value in goal.others.items()}
        print(json.dumps(row))
