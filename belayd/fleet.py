"""The boards by name: made from the inventory, found by discovery, each with its own task.

Owns the boards' tasks and joins the rooms: what discovery sees becomes a board's
opener, a lease's end becomes its interruption. Knows nothing of RPCs.
"""

from __future__ import annotations

import asyncio
import difflib
import functools
import logging
import os
import random
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from belayd.backoff import Backoff
from belayd.between import tidy_for
from belayd.board import Board
from belayd.discovery import Adopted, Attached, Detached, DiscoveryEvent, Forgotten, Port, Readopted
from belayd.errors import BelaydError, BoardNotFound
from belayd.events import BoardAdded, BoardRemoved, Events
from belayd.identity import Identity
from belayd.inventory import Attach, BoardSpec, Link, SerialLink, SimulatedLink, TcpLink, UsbLink, WebreplLink
from belayd.leasing import Leasing
from belayd.link import OnIdentity
from belayd.selector import Selector
from belayd.snapshot import BoardSnapshot, Disabled
from belayd.transport.contract import Opener, Transport, TransportError
from belayd.transport.process import open_simulated
from belayd.transport.serial import open_serial
from belayd.transport.tcp import open_tcp
from belayd.transport.websocket import open_webrepl

log = logging.getLogger(__name__)

MOST_REMEMBERED = 1000
"""Names and links of boards that left unclean."""


@dataclass(slots=True)
class _Member:
    board: Board
    spec: BoardSpec
    task: asyncio.Task[None]


class Fleet:
    """All boards of one daemon.

    `folder` holds the files of simulated boards that name no folder of their own;
    `disabled` tells which boards an operator took out of service before they came.
    """

    def __init__(
        self,
        leasing: Leasing,
        events: Events,
        folder: Path,
        disabled: Callable[[str], Disabled | None] = lambda name: None,
    ) -> None:
        self._leasing = leasing
        self._events = events
        self._folder = folder
        self._disabled = disabled
        self._draining = False
        self._unclean: OrderedDict[str | tuple[Link, str | None], None] = OrderedDict()
        self._members: dict[str, _Member] = {}
        self._leaving: dict[asyncio.Task[None], _Member] = {}
        self._on_identity: Callable[[Port, str], None] = _nobody

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def board(self, name: str) -> Board:
        """Return the board called `name`.

        Raises:
            BoardNotFound: There is none; the message says what is close.
        """
        member = self._members.get(name)
        if member is None:
            close = difflib.get_close_matches(name.lower(), self._members, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "; belayctl boards lists them"
            raise BoardNotFound(f"there is no board {name!r}{hint}", board=name)
        return member.board

    def select(self, selector: Selector) -> list[Board]:
        """Return the boards that `selector` matches, by name."""
        return [
            member.board
            for name, member in sorted(self._members.items())
            if selector.matches(name, member.spec.labels)
        ]

    def snapshots(self) -> list[BoardSnapshot]:
        """Return how every board is now."""
        return [member.board.snapshot() for member in self._members.values()]

    def tell_identities(self, listener: Callable[[Port, str], None]) -> None:
        """Tell `listener` the unique_id that a board on a USB port told, each time one is opened."""
        self._on_identity = listener

    def add(self, specs: Iterable[BoardSpec]) -> None:
        """Make a board of each entry and start to look after it."""
        for spec in specs:
            passive = spec.attach is Attach.PASSIVE
            identity = Identity(spec.name, spec.link.kind, spec.labels, spec.unique_id, passive)
            backoff = Backoff(functools.partial(random.uniform, 0.8, 1.2))
            tidy = tidy_for(spec)
            board = Board(identity, self._leasing, self._events, _new_token, backoff, tidy=tidy)
            board.drain(self._draining)
            known = [key for key in _known_by(spec) if key in self._unclean]
            for key in known:
                del self._unclean[key]
            if known:
                board.clean_first()  # it left while somebody held it, and comes back
            task = asyncio.create_task(board.live(), name=f"board {spec.name}")
            task.add_done_callback(functools.partial(_report_end, spec.name))
            self._members[spec.name] = _Member(board, spec, task)
            self._events.publish(BoardAdded(spec.name))
            if (disabled := self._disabled(spec.name)) is not None:
                board.disable(disabled)

    def change(self, spec: BoardSpec) -> None:
        """Take what a board's entry says now, where it differs in nothing that needs a new link."""
        member = self._members[spec.name]
        member.spec = spec
        member.board.change(spec.labels, tidy_for(spec))

    def drain(self, on: bool) -> None:
        """Let every board refuse, or take again, new work without a lease."""
        self._draining = on
        for member in self._members.values():
            member.board.drain(on)

    def remove(self, name: str) -> None:
        """Forget a board at once; what runs on it is ended and its port closed soon.

        Its name and its port may be given to another board right away: that one is
        opened when this one is closed.
        """
        member = self._members.pop(name)
        if member.board.unclean:
            self._unclean |= dict.fromkeys(_known_by(member.spec))
            while len(self._unclean) > MOST_REMEMBERED:
                self._unclean.popitem(last=False)
        task = asyncio.create_task(self._leave(member), name=f"forget {name}")
        self._leaving[task] = member
        task.add_done_callback(self._leaving.pop)
        self._events.publish(BoardRemoved(name))

    def discovered(self, event: DiscoveryEvent) -> None:
        """Take what discovery saw."""
        match event:
            case Adopted(spec):
                self.add([spec])
            case Readopted(spec):
                self.change(spec)
            case Forgotten(name):
                self.remove(name)
            case Attached(name, port):
                if name in self._members:
                    self._attach(self._members[name], port)
            case Detached(name, reason):
                if name in self._members:
                    self._members[name].board.detach(reason)

    def lease_ended(self, board: str, fence: int, error: BelaydError) -> None:
        """Interrupt what runs under a lease that ended."""
        member = self._members.get(board)
        # A board that leaves ends its lease by that, and whoever uses it shall hear so.
        leaving = [gone for gone in self._leaving.values() if gone.spec.name == board]
        for ended in [member] if member else leaving:
            ended.board.lease_ended(fence, error)

    async def close(self) -> None:
        """End every board's task and close every port; idempotent."""
        members = [*self._members.values(), *self._leaving.values()]
        for member in members:
            await member.board.close()
        tasks = [member.task for member in members]
        await asyncio.gather(*tasks, *self._leaving, return_exceptions=True)

    async def _leave(self, member: _Member) -> None:
        await member.board.close(_gone(member.board.name))
        await asyncio.wait([member.task])  # how it ended is told by _report_end
        follower = self._members.get(member.spec.name)
        if follower is not None:
            # The last states of the one that left were told under the name of both.
            self._leasing.set_available(member.spec.name, follower.board.state.up)

    def _attach(self, member: _Member, port: Port) -> None:
        spec, board = member.spec, member.board
        identified = functools.partial(self._identified, port) if isinstance(spec.link, UsbLink) else None
        match spec.link:
            case UsbLink() | SerialLink() as link:
                lines: dict[str, Any] = {"baudrate": link.baudrate, "dtr": link.dtr, "rts": link.rts}
                lines |= {"hupcl": link.hupcl, "low_latency": link.low_latency}
                opener = functools.partial(open_serial, port.address, **lines)
                self._open(board, opener, port.address, identified)
            case SimulatedLink() as link:
                folder = link.folder or self._folder / spec.name
                self._open(board, _simulated_opener(link, folder, spec.unique_id), f"simulated:{spec.name}")
            case WebreplLink() as link:
                self._open(board, functools.partial(_open_webrepl, link), link.url)
            case TcpLink() as link:
                self._open(board, functools.partial(open_tcp, link.url), link.url)
            case _ as unknown:
                assert_never(unknown)

    def _identified(self, port: Port, unique_id: str) -> str | None:
        """Pass on whose board a port has; return the entry that has this unique id."""
        self._on_identity(port, unique_id)
        for name, member in self._members.items():
            if unique_id and member.spec.unique_id == unique_id:
                return name
        return None

    def _open(
        self, board: Board, opener: Opener, address: str, on_identity: OnIdentity | None = None
    ) -> None:
        """Attach a board, to be opened when those have left that had its name or its port."""
        before = [
            member.task
            for member in self._leaving.values()
            if board.name == member.spec.name or address == member.board.snapshot().address
        ]
        opener = functools.partial(_open_after, before, opener) if before else opener
        board.attach(opener, address, on_identity)


async def _open_after(before: Sequence[asyncio.Task[None]], opener: Opener) -> Transport:
    await asyncio.wait(before)
    return await opener()


async def _open_webrepl(link: WebreplLink) -> Transport:
    # Read at each opening: a password that was changed counts, and none is kept.
    return await open_webrepl(link.url, password=await asyncio.to_thread(_password, link))


def _password(link: WebreplLink) -> str:
    try:
        if link.password_file is not None:
            return link.password_file.read_text().rstrip("\r\n")
        return os.environ[link.password_env or ""]
    except KeyError:
        raise TransportError(
            f"{link.url}: the variable {link.password_env} with its password is not set"
        ) from None
    except OSError as error:
        raise TransportError(f"{link.url}: its password cannot be read: {error}") from error


def _simulated_opener(link: SimulatedLink, folder: Path, unique_id: str | None) -> Opener:
    return functools.partial(
        open_simulated,
        folder,
        micropython=str(link.micropython) if link.micropython else None,
        heap_kib=link.heap_kib,
        flash_kib=link.flash_kib,
        unique_id=unique_id,
    )


def _nobody(port: Port, unique_id: str) -> None:
    """Hear nothing."""


def _known_by(spec: BoardSpec) -> list[str | tuple[Link, str | None]]:
    """Return what tells a board that comes back: its name, though its link is another, or its link under any name."""
    if isinstance(spec.link, SimulatedLink):
        return [spec.name]  # its files are found by its name, and its link says nothing
    return [spec.name, (spec.link, spec.unique_id)]  # entries may share a USB match, with a unique_id each


def _gone(name: str) -> BoardNotFound:
    return BoardNotFound(
        f"board {name!r} left the inventory, or got another link there; belayctl boards lists those there are",
        board=name,
    )


def _new_token(length: int) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _report_end(name: str, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("board %s: its task died; restart the daemon", name, exc_info=error)
