"""One command on one board or on all that a selector matches, at once.

On several boards each outcome is one line at the end, on stderr, and the exit
code is the highest of theirs; one board's failure stops no other.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from belayd_client.cli.command import check_target
from belayd_client.cli.outcome import exit_code
from belayd_client.cli.output import PrefixedSink, Sink, neutral, note, one_line, stdout_sink
from belayd_client.errors import BelaydError, BoardException, NotFound

if TYPE_CHECKING:
    from belayd_client.client import Client

T = TypeVar("T")

# Each is one thread that waits for one call; boards beyond these wait for a thread.
MOST_AT_ONCE = 256

_WAKE = 0.2


class Outcome(NamedTuple, Generic[T]):
    """How one board's part ended: a result, or what it failed with."""

    board: str
    result: T | None
    failure: BelaydError | BoardException | None

    @property
    def code(self) -> int:
        """Its exit code."""
        return 0 if self.failure is None else exit_code(self.failure)

    @property
    def summary(self) -> str:
        """How it ended, in a line."""
        if self.failure is None:
            return "done"
        if isinstance(self.failure, BoardException):
            return one_line(f"{self.failure.type_name}: {self.failure.message}".removesuffix(": "))
        return one_line(str(self.failure))


def names(client: Client, args: argparse.Namespace) -> list[str]:
    """Return the boards that a command line means.

    Raises:
        NotFound: The selector matches none.
        UsageError: It names neither board nor selector, or both.
    """
    check_target(args)
    if args.selector is None:
        return [args.board]
    found = [board.name for board in client.boards(args.selector)]
    if not found:
        raise NotFound(f"no board matches {args.selector}; `belayctl boards` lists them with their labels")
    return found


def one(board: str, work: Callable[[str, Sink], T], *, raw: bool) -> T:
    """Do the work for one board, its output to stdout; return its result."""
    sink = stdout_sink(raw=raw)
    try:
        return work(board, sink)
    finally:
        sink.close()


def many(
    client: Client, boards: Sequence[str], work: Callable[[str, Sink], T], *, raw: bool
) -> list[Outcome[T]]:
    """Do the work for all boards at once, output prefixed by board; return the outcomes in order.

    Ctrl-C cancels all of it.
    """
    lock = threading.Lock()
    width = max(len(board) for board in boards)

    def part(board: str) -> Outcome[T]:
        sink = PrefixedSink(f"{board.ljust(width)} | ", lock, raw=raw)
        try:
            return Outcome(board, work(board, sink), None)
        except (BelaydError, BoardException) as error:
            return Outcome(board, None, error)
        finally:
            sink.close()

    pool = ThreadPoolExecutor(min(len(boards), MOST_AT_ONCE))
    try:
        futures = [pool.submit(part, board) for board in boards]
        while wait(futures, _WAKE).not_done:
            pass  # Ctrl-C is handled between two waits, when another thread was given the signal.
    except BaseException:
        client.close()  # Cancels the calls that the threads wait for.
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()
    return [future.result() for future in futures]


def report(outcomes: Sequence[Outcome[T]]) -> int:
    """Print how each board ended; return the highest of the exit codes."""
    for outcome in outcomes:
        if isinstance(outcome.failure, BoardException):
            note(f"{outcome.board}: the code raised:")
            print_indented(outcome.failure.traceback)
    good = sum(outcome.failure is None for outcome in outcomes)
    width = max(len(outcome.board) for outcome in outcomes)
    for outcome in outcomes:
        note(f"{outcome.board.ljust(width)}  {outcome.summary}")
    note(f"{good} of {len(outcomes)} boards done")
    return max(outcome.code for outcome in outcomes)


def print_indented(traceback: str) -> None:
    """Print a board's traceback below a note."""
    for line in traceback.splitlines():
        print(f"    {neutral(line)}", file=sys.stderr)
