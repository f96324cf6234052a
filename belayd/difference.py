"""What differs between two inventories, for people to read and for a reload to apply; pure.

A board is the same one while its link, unique_id and way to attach are: then a
change needs no new connection, and a lease and what runs go on. Otherwise it is
replaced, and whoever holds it loses it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from belayd.discovery import identity_of, rule_identity
from belayd.inventory import AdoptRule, Between, BoardSpec, DeployTree, Inventory, Wipe


class Kind(enum.Enum):
    """What becomes of something; NEEDS_RESTART is not applied while the daemon runs."""

    ADDED = "added"
    REMOVED = "removed"
    REPLACED = "replaced"
    CHANGED = "changed"
    NEEDS_RESTART = "needs restart"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference.

    Attributes:
        key: Where it stands in the inventory: boards.pico-1, adopt.NAME, server.limits.idle.
        board: The board's name; "" for all else.
        details: What was and what is, such as "labels.rack: 2 -> 3".
        holder: Who loses the board's lease by it; "" for nobody.
    """

    kind: Kind
    key: str
    board: str = ""
    details: tuple[str, ...] = ()
    holder: str = ""


def compare(
    old: Inventory, new: Inventory, started: Inventory, holder: Callable[[str], str] = lambda board: ""
) -> tuple[Change, ...]:
    """Return what a reload from `old` to `new` changes: boards by name, then rules, then settings.

    `started` is what the daemon started with, whose addresses and TLS it still
    has; `holder` tells who holds a board now.
    """
    return (
        *_boards(old.boards, new.boards, holder),
        *_rules(old.adopt, new.adopt),
        *_settings(old, new),
        *_fixed(started, new),
    )


def _boards(
    old: Mapping[str, BoardSpec], new: Mapping[str, BoardSpec], holder: Callable[[str], str]
) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        key = f"boards.{name}"
        if before is None:
            yield Change(Kind.ADDED, key, name)
        elif after is None:
            yield Change(Kind.REMOVED, key, name, holder=holder(name))
        elif before != after:
            same = identity_of(before) == identity_of(after)
            kind, loser = (Kind.CHANGED, "") if same else (Kind.REPLACED, holder(name))
            yield Change(kind, key, name, tuple(_spelled(before, after)), loser)


def _rules(old: Sequence[AdoptRule], new: Sequence[AdoptRule]) -> Iterator[Change]:
    before = {rule_identity(rule): rule for rule in reversed(old)}
    after = {rule_identity(rule): rule for rule in reversed(new)}
    for identity in [*before, *(identity for identity in after if identity not in before)]:
        one, other = before.get(identity), after.get(identity)
        if one is None and other is not None:
            yield Change(Kind.ADDED, f"adopt.{other.name}")
        elif one is not None and other is None:
            yield Change(Kind.REMOVED, f"adopt.{one.name}")
        elif one != other:
            yield Change(Kind.CHANGED, f"adopt.{identity[1]}", details=tuple(_spelled(one, other)))


def _settings(old: Inventory, new: Inventory) -> Iterator[Change]:
    for name, key in (
        ("max_hold", "limits.max_hold"),
        ("idle", "limits.idle"),
        ("per_user", "limits.per_user"),
        ("metric_labels", "metric_labels"),
    ):
        before, after = getattr(old.server, name), getattr(new.server, name)
        if before != after:
            yield Change(Kind.CHANGED, f"server.{key}", details=(_arrow(before, after),))


def _fixed(started: Inventory, new: Inventory) -> Iterator[Change]:
    for key, before, after in (
        ("server.listen", started.server.listen, new.server.listen),
        ("server.metrics", started.server.metrics, new.server.metrics),
        ("server.tls", started.server.tls, new.server.tls),
        ("cluster", started.cluster, new.cluster),
    ):
        if before != after:
            simple = isinstance(before, str)
            yield Change(Kind.NEEDS_RESTART, key, details=(_arrow(before, after),) if simple else ())


def _spelled(before: object, after: object) -> Iterator[str]:
    """Yield what differs between two values of one dataclass, field by field."""
    for each in fields(before):  # type: ignore[arg-type]
        one, other = getattr(before, each.name), getattr(after, each.name)
        if one == other:
            continue
        if isinstance(one, Mapping):
            for key in sorted(one.keys() | other.keys()):
                if one.get(key) != other.get(key):
                    yield f"{each.name}.{key}: {_arrow(one.get(key), other.get(key))}"
        elif each.name == "between":
            yield f"between: {_between(one)} -> {_between(other)}"
        elif each.name == "link":
            yield from _link(one, other)
        else:
            yield f"{each.name}: {_arrow(one, other)}"


def _link(before: object, after: object) -> Iterator[str]:
    if type(before) is not type(after):
        yield f"link: {getattr(before, 'kind', '')} -> {getattr(after, 'kind', '')}"
        return
    yield from (f"{getattr(after, 'kind', 'link')}.{text}" for text in _spelled(before, after))


def _between(between: Between) -> str:
    if isinstance(between, DeployTree):
        size = sum(len(file.content) for file in between.files)
        return f"deploy {between.folder} ({len(between.files)} files, {size} bytes)"
    return "wipe" if isinstance(between, Wipe) else "soft_reset"


def _arrow(before: object, after: object) -> str:
    return f"{_word(before)} -> {_word(after)}"


def _word(value: object) -> str:
    match value:
        case None:
            return "none"
        case float():
            return f"{value:g} s"
        case tuple():
            return ", ".join(map(str, value)) or "none"
        case enum.Enum():
            return str(value.value)
        case _:
            return str(value)
