"""What a reload would change, told before it is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from belayd.difference import Change, Kind, compare
from belayd.inventory import (
    AdoptRule,
    Attach,
    BoardSpec,
    DeployTree,
    Inventory,
    SerialLink,
    ServerSettings,
    SimulatedLink,
    TlsFiles,
    TreeFile,
    UsbLink,
    Wipe,
)

BOARD = BoardSpec("pico-1", UsbLink(serial_number="A"), {"rack": "2", "chip": "rp2"})
RULE = AdoptRule(UsbLink(vid=0x2E8A), "pico-{serial_number}", labels={"chip": "rp2"})
TREE = DeployTree(Path("/clean"), (TreeFile("main.py", b"1" * 32, b"x = 1"),))


def inventory(*boards: BoardSpec, rules: tuple[AdoptRule, ...] = (), **server: object) -> Inventory:
    settings = ServerSettings(**server)  # type: ignore[arg-type]
    return Inventory(Path("lab.yaml"), settings, {board.name: board for board in boards}, rules)


def difference(old: Inventory, new: Inventory) -> tuple[Change, ...]:
    return compare(old, new, old, {"pico-1": "ann"}.get)  # type: ignore[arg-type]


def test_equal_inventories_differ_in_nothing() -> None:
    assert difference(inventory(BOARD, rules=(RULE,)), inventory(BOARD, rules=(RULE,))) == ()


@pytest.mark.parametrize(
    ("after", "kind", "details", "holder"),
    [
        (
            replace(BOARD, labels={"rack": "3", "new": "yes"}),
            Kind.CHANGED,
            ("labels.chip: rp2 -> none", "labels.new: none -> yes", "labels.rack: 2 -> 3"),
            "",
        ),
        (replace(BOARD, between=Wipe()), Kind.CHANGED, ("between: soft_reset -> wipe",), ""),
        (
            replace(BOARD, between=TREE),
            Kind.CHANGED,
            ("between: soft_reset -> deploy /clean (1 files, 5 bytes)",),
            "",
        ),
        (
            replace(BOARD, link=UsbLink(serial_number="B")),
            Kind.REPLACED,
            ("usb.serial_number: A -> B",),
            "ann",
        ),
        (replace(BOARD, link=SerialLink("/dev/x")), Kind.REPLACED, ("link: usb -> serial",), "ann"),
        (replace(BOARD, unique_id="e661"), Kind.REPLACED, ("unique_id: none -> e661",), "ann"),
        (replace(BOARD, attach=Attach.PASSIVE), Kind.REPLACED, ("attach: interrupt -> passive",), "ann"),
    ],
    ids=["labels", "between", "folder", "usb", "link", "unique_id", "attach"],
)
def test_a_board_is_changed_or_replaced(
    after: BoardSpec, kind: Kind, details: tuple[str, ...], holder: str
) -> None:
    assert difference(inventory(BOARD), inventory(after)) == (
        Change(kind, "boards.pico-1", "pico-1", details, holder),
    )


def test_a_folder_with_other_contents_is_a_change() -> None:
    other = DeployTree(Path("/clean"), (TreeFile("main.py", b"2" * 32, b"x = 2"),))

    told = difference(inventory(replace(BOARD, between=TREE)), inventory(replace(BOARD, between=other)))

    assert [change.kind for change in told] == [Kind.CHANGED]


def test_boards_that_come_and_go_are_told_by_name() -> None:
    other = BoardSpec("a-sim", SimulatedLink())

    assert difference(inventory(BOARD), inventory(other)) == (
        Change(Kind.ADDED, "boards.a-sim", "a-sim"),
        Change(Kind.REMOVED, "boards.pico-1", "pico-1", holder="ann"),
    )


def test_rules_are_the_same_while_they_adopt_the_same() -> None:
    more = replace(RULE, max=30, labels={"chip": "rp2040"})
    other = AdoptRule(UsbLink(vid=0x303A), "esp-{serial_number}")

    changed = difference(inventory(rules=(RULE,)), inventory(rules=(more, other)))
    replaced = difference(inventory(rules=(RULE,)), inventory(rules=(other,)))

    key = "adopt.pico-{serial_number}"
    assert changed == (
        Change(Kind.CHANGED, key, details=("max: 20 -> 30", "labels.chip: rp2 -> rp2040")),
        Change(Kind.ADDED, "adopt.esp-{serial_number}"),
    )
    assert replaced == (Change(Kind.REMOVED, key), Change(Kind.ADDED, "adopt.esp-{serial_number}"))


def test_what_needs_a_restart_is_told_until_there_was_one() -> None:
    started = inventory(listen="localhost:1")
    tls = TlsFiles(Path("cert"), Path("key"))
    now = inventory(listen="localhost:2", tls=tls)

    told = compare(now, now, started)

    assert told == (
        Change(Kind.NEEDS_RESTART, "server.listen", details=("localhost:1 -> localhost:2",)),
        Change(Kind.NEEDS_RESTART, "server.tls"),
    )


def test_limits_are_told_in_seconds_and_numbers() -> None:
    told = difference(inventory(), inventory(idle=60.0, per_user=4, metric_labels=("chip", "rack")))

    assert [(change.key, change.details) for change in told] == [
        ("server.limits.idle", ("1800 s -> 60 s",)),
        ("server.limits.per_user", ("none -> 4",)),
        ("server.metric_labels", ("none -> chip, rack",)),
    ]
