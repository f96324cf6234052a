"""`belayd check`: is this inventory right?"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from belayd.inventory import Inventory, Problem

_EXAMPLES = """\
examples:
  belayd check lab.yaml
  belayd check --json lab.yaml | jq .problems
  belayd check --schema > belayd.schema.json    # for an editor's completion

Each mistake is one line on stderr: FILE:LINE: key: what is wrong; what to write
instead. Exit codes: 0 the inventory can be used, 2 it cannot.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "check",
        help="validate an inventory, or print its JSON Schema",
        description="Validate an inventory: every mistake at once, each with its line.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="the inventory, YAML")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of inventories and stop")
    parser.set_defaults(run=run, complain=parser.error)


def run(args: argparse.Namespace) -> int:
    """Check the file; returns the exit code."""
    from belayd.inventory import InventoryError, json_schema, load

    if args.schema:
        print(json.dumps(json_schema(), indent=2))
        return 0
    if args.file is None:
        args.complain("name the inventory, such as: belayd check lab.yaml")
    inventory = None
    problems: tuple[Problem, ...] = ()
    try:
        inventory = load(args.file)
    except InventoryError as error:
        problems = error.problems
    if args.json:
        print(json.dumps(_as_json(args.file, inventory, problems), indent=2))
    else:
        _print(args.file, inventory, problems)
    return 0 if inventory else 2


def _print(file: str, inventory: Inventory | None, problems: tuple[Problem, ...]) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)
    if inventory is None:
        return
    for warning in inventory.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    kinds = ", ".join(f"{count} {kind}" for kind, count in _boards_by_kind(inventory).items())
    boards = _counted(len(inventory.boards), "board") + (f" ({kinds})" if kinds else "")
    print(f"{file}: {boards}, {_counted(len(inventory.adopt), 'adopt rule')}")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _boards_by_kind(inventory: Inventory) -> dict[str, int]:
    from belayd.inventory import LINK_KINDS

    links = [spec.link.kind for spec in inventory.boards.values()]
    return {kind: links.count(kind) for kind in LINK_KINDS if kind in links}


def _as_json(file: str, inventory: Inventory | None, problems: tuple[Problem, ...]) -> dict[str, Any]:
    return {
        "file": file,
        "valid": inventory is not None,
        "boards": _boards_by_kind(inventory) if inventory else {},
        "adopt_rules": len(inventory.adopt) if inventory else 0,
        "problems": [_problem_as_json(problem) for problem in problems],
        "warnings": [_problem_as_json(problem) for problem in inventory.warnings] if inventory else [],
    }


def _problem_as_json(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line,
        "key": problem.key,
        "message": problem.message,
        "suggestion": problem.suggestion,
    }
