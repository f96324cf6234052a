"""boards and info: what there is and how it is."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from belayd_client.cli.command import Command, add_json
from belayd_client.cli.connection import open_client
from belayd_client.cli.output import local_time, one_line, plain, print_json, print_table

if TYPE_CHECKING:
    from belayd_client.board import Board
    from belayd_client.client import Client

HEADINGS = ("BOARD", "STATE", "HOLDER", "UNTIL", "QUEUE", "LABELS", "")


def _configure_boards(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-l", "--selector", metavar="SEL", help="only those with these labels, such as chip=rp2"
    )
    parser.add_argument("--watch", action="store_true", help="stay and show each change, until Ctrl-C")
    add_json(parser)


def _boards(args: argparse.Namespace) -> int:
    with open_client(args) as client:
        if args.watch:
            return _watch(client, args)
        boards = client.boards(args.selector)
    if args.json:
        print_json(boards)
    else:
        _print_boards(boards, args.selector)
    return 0


def _watch(client: Client, args: argparse.Namespace) -> int:
    """Show the whole table anew on a terminal; else a line for each board that changed."""
    known: dict[str, Board] = {}
    for change in client.watch_boards(args.selector):
        known.update({board.name: board for board in change.boards})
        for name in change.removed:
            known.pop(name, None)
        if args.json:
            print_json({"boards": change.boards, "removed": change.removed}, one_per_line=True)
        elif sys.stdout.isatty():
            print("\x1b[H\x1b[J", end="")
            _print_boards([known[name] for name in sorted(known)], args.selector)
        else:
            for board in change.boards:
                print("\t".join(one_line(cell) for cell in _row(board)))
            for name in change.removed:
                print(f"{one_line(name)}\tremoved")
        sys.stdout.flush()
    return 0


def _print_boards(boards: list[Board], selector: str | None) -> None:
    empty = f"no board matches {selector}" if selector else "the inventory has no boards"
    print_table(HEADINGS, [_row(board) for board in boards], empty=empty)


def _row(board: Board) -> tuple[str, ...]:
    return (
        board.name,
        board.state.value,
        board.lease.holder or "somebody" if board.lease else "-",
        local_time(board.lease.expires if board.lease else None),
        str(board.queue_length + board.lease_queue_length),
        _labels(board),
        board.state_reason,
    )


def _labels(board: Board) -> str:
    return ",".join(f"{name}={value}" for name, value in board.labels.items()) or "-"


def _configure_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", metavar="BOARD", help="the board's name")
    add_json(parser)


def _info(args: argparse.Namespace) -> int:
    with open_client(args) as client:
        board = client.board(args.board)
    if args.json:
        print_json(plain(board))
        return 0
    rows = [
        ("board", board.name),
        ("state", board.state.value + (f": {board.state_reason}" if board.state_reason else "")),
        ("link", f"{board.transport} {board.address}".rstrip()),
        ("labels", _labels(board)),
        ("last seen", local_time(board.last_seen)),
        ("jobs queued", str(board.queue_length)),
    ]
    if board.facts is not None:
        facts = board.facts
        rows += [
            ("firmware", f"{facts.implementation} {facts.version} on {facts.platform}"),
            ("machine", facts.machine or "-"),
            ("unique id", facts.unique_id or "-"),
            ("memory free", f"{facts.memory_free_bytes} bytes" if facts.memory_free_bytes else "-"),
            ("raw paste", "yes" if facts.raw_paste else "no"),
        ]
    if board.lease is not None:
        rows += [
            ("held by", board.lease.holder or "somebody"),
            ("for", board.lease.reason or "-"),
            ("since", local_time(board.lease.since)),
            ("until", local_time(board.lease.expires)),
        ]
    else:
        rows.append(("held by", "nobody"))
    if board.observers:
        rows.append(("watched by", ", ".join(board.observers)))
    rows.append(("waiting for it", str(board.lease_queue_length)))
    for heading, text in rows:
        print(f"{heading + ':':<16}{one_line(text)}")
    return 0


COMMANDS = (
    Command(
        name="boards",
        summary="list the boards and how they are",
        description="List the boards: state, who holds a lease and until when, how much waits, labels,\n"
        "and why one is out of service. With --watch again at each change; with --json too,\n"
        "one object a line.",
        example="  belayctl boards -l chip=rp2\n  belayctl boards --json | jq -r '.[].name'",
        configure=_configure_boards,
        run=_boards,
    ),
    Command(
        name="info",
        summary="tell all about one board",
        description="Tell what is known of one board. The board itself is not asked.",
        example="  belayctl info pico-1",
        configure=_configure_info,
        run=_info,
    ),
)
