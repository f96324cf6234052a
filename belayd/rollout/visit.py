"""The work on one board of a rollout: its lease, its files, its check, its old files again.

The lease is given back whatever happens. Cancelled, a visit leaves the board with its
old files or with all its new ones as soon as the board is next reached; whoever
cancels takes it up again from the beginning, which sends nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn, Protocol

from belayd.access import Principal
from belayd.deployment.plan import Plan
from belayd.deployment.transfer import Contents, Progress
from belayd.errors import (
    BelaydError,
    BoardUnresponsive,
    Exhausted,
    LeaseLost,
    PermissionDenied,
    ReadOnly,
    RequestInvalid,
    RunTimeout,
    StoreFailed,
    TransportLost,
    Unsupported,
)
from belayd.outcome import Outcome, Raised, Returned
from belayd.rollout.course import Step
from belayd.rollout.delivery import Delivery, Parcel
from belayd.rollout.hold import Hold, House
from belayd.rollout.intent import Check, Intent
from belayd.session import Emit, Session

ATTEMPTS = 3
"""Times that a deployment is begun whose link is lost; more would only wear the board."""
RETURN_TIMEOUT = 600.0
"""Seconds for giving a board its old files again, however long the rest took."""
BACK_TIMEOUT = 60.0
"""Seconds for a soft reset with its boot.py, and for the board to come back where that closes its link."""
MOST_MESSAGE = 500
"""Characters of a message; it may quote what a board raised."""

# What a deployment is refused with, or ends with before its files take the old ones' places.
_BEFORE_THE_END = (Exhausted, PermissionDenied, ReadOnly, RequestInvalid, StoreFailed, Unsupported)


class Diary(Protocol):
    """Hears how far a visit is."""

    def move(self, step: Step, message: str = "") -> None:
        """Note a step, and what it waits for."""

    def measure(self, written_bytes: int, total_bytes: int) -> None:
        """Note how much is written."""

    def spend(self, wire_bytes: int, ran: float) -> None:
        """Note what went over the wire so far, and for how many seconds the board worked."""

    def ask(self, lease: str) -> None:
        """Note the name of the lease that is asked for."""

    def mark(self, since: str) -> None:
        """Note the deployment that the board had last, to which it can be brought back; "" for none yet."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What one visit is for.

    Attributes:
        rollout: Its name.
        principal: The rollout's creator, with the rights of now.
        reason: For others to read beside the lease.
        since: The board's last deployment before an earlier visit that was cut short; "" for no such visit.
        lease: The name of that visit's lease.
    """

    rollout: str
    board: str
    principal: Principal
    reason: str
    intent: Intent
    contents: Contents
    since: str = ""
    lease: str = ""


class Failed(Exception):
    """The board failed; the text says why, and what it has."""

    def __init__(self, text: str) -> None:
        super().__init__(text if len(text) <= MOST_MESSAGE else text[: MOST_MESSAGE - 3] + "...")


class _Unhealthy(Exception):
    """The board does not work with its new files; the text says how that showed."""


class Visit:
    """One visit to one board."""

    def __init__(self, errand: Errand, house: House, delivery: Delivery, diary: Diary) -> None:
        self._errand = errand
        self._delivery = delivery
        self._diary = diary
        self._since = errand.since
        self._hold = Hold(house, errand.board, errand.principal, errand.lease)

    async def make(self) -> None:
        """Return when the board has its files and works.

        Raises:
            Failed: It has not, or does not.
        """
        try:
            left = await self._hold.acquire(
                f"rollout {self._errand.rollout}",
                self._errand.reason,
                self._errand.intent.timeout,
                self._diary.ask,
                lambda why: self._diary.move(Step.WAITING, why),
            )
        except BelaydError as error:
            raise Failed(f"{error.message}; nothing was changed") from error
        try:
            await self._work(left)
        finally:
            self._hold.release()

    async def _work(self, left: float) -> None:
        self._diary.move(Step.DEPLOYING)
        try:
            await self._deploy(left)
        except BelaydError as error:
            if self._untouched(error):
                self._mark("")  # tried again, what it has by then is what it shall have back
            raise Failed(f"{error.message}{self._left_with(error)}") from error
        if self._errand.intent.check is None:
            return
        self._diary.move(Step.CHECKING)
        try:
            await self._check(self._errand.intent.check)
        except LeaseLost as error:
            raise Failed(f"{error.message}; it has its new files, and was not checked") from error
        except BelaydError as error:
            await self._fall_back(error.message)
        except _Unhealthy as error:
            await self._fall_back(str(error))

    async def _deploy(self, left: float) -> None:
        now = asyncio.get_running_loop().time
        deadline = now() + left
        if not self._since:
            self._mark(await self._delivery.last(self._errand.board))
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._spending():
                    await self._hold.run("deploy", self._deployed, max(0.0, deadline - now()))
            except (TransportLost, BoardUnresponsive) as error:
                if attempt == ATTEMPTS or now() >= deadline:
                    raise
                self._diary.move(Step.DEPLOYING, f"{error.message}; trying again"[:MOST_MESSAGE])
            else:
                return

    async def _deployed(self, session: Session, emit: Emit) -> None:
        errand = self._errand
        parcel = Parcel(
            board=errand.board,
            principal=errand.principal.name,
            manifest=errand.intent.files(errand.board),
            contents=errand.contents,
            options=errand.intent.options,
            report=self._report,
        )
        await self._delivery.deploy(session, parcel)

    async def _report(self, step: Plan | Progress) -> None:
        if isinstance(step, Progress):
            self._diary.measure(step.written_bytes, step.total_bytes)
        else:
            self._diary.measure(0, step.payload_bytes)

    def _mark(self, since: str) -> None:
        self._since = since
        self._diary.mark(since)

    def _untouched(self, error: BelaydError) -> bool:
        return isinstance(error, _BEFORE_THE_END) and not self._errand.intent.in_place

    def _left_with(self, error: BelaydError) -> str:
        """Return what a board has whose deployment failed, to be read after why it did."""
        if self._errand.intent.in_place:
            return "; it may have some files of each"
        if self._untouched(error):
            return "; it has its old files"
        return "; it has its old files, or all its new ones, when it is next reached"

    async def _check(self, check: Check) -> None:
        async def reset(session: Session, emit: Emit) -> None:
            await session.soft_reset(emit)

        async def ask(session: Session, emit: Emit) -> Outcome:
            if check.expression:
                # The board says what is true: a value may have no form that could be sent.
                return await session.evaluate(f"bool(({check.code}\n))", emit)
            return await session.run(check.code, emit)

        with self._spending():
            # As over WebREPL, whose connection a restart closes: the check shows whether it came back.
            with contextlib.suppress(TransportLost):
                await self._hold.run("reset", reset, BACK_TIMEOUT)
            try:
                outcome = await self._hold.run("run", ask, BACK_TIMEOUT, check.timeout)
            except RunTimeout as error:
                raise _Unhealthy(f"its check did not end within {check.timeout:g} s") from error
        match outcome:
            case Raised(exception):
                raised = f"{exception.type_name}: {exception.message}".removesuffix(": ")
                raise _Unhealthy(f"its check raised {raised}")
            case Returned(value) if check.expression and value is not True:
                raise _Unhealthy("its check is not true")

    async def _fall_back(self, why: str) -> NoReturn:
        """Give a board that failed its check its old files again, if so wanted; raise Failed."""
        if self._errand.intent.keep_failed:
            raise Failed(f"{why}; it keeps its new files")
        self._diary.move(Step.ROLLING_BACK, why[:MOST_MESSAGE])
        try:
            with self._spending():
                changed = await self._hold.run("deploy", self._rolled_back, RETURN_TIMEOUT)
        except BelaydError as error:
            raise Failed(f"{why}; it could not be rolled back: {error.message}") from error
        self._mark("")
        raise Failed(
            f"{why}; " + ("it has its old files again" if changed else "its files were the same before")
        )

    async def _rolled_back(self, session: Session, emit: Emit) -> bool:
        errand = self._errand
        return await self._delivery.roll_back(session, errand.board, errand.principal.name, self._since)

    @contextlib.contextmanager
    def _spending(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._diary.spend(self._hold.wire_bytes, self._hold.ran)
