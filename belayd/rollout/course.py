"""Which board of a rollout is next, and when it stops: pure.

The first boards are the canaries, wave 0; the others follow in waves of so many. A
wave is begun with when every board of those before it has ended, and what comes
after the canaries only when all of them succeeded. Promises:

- never more boards under way than `parallel`;
- once more have failed than may, or one canary has, no board is begun with until
  somebody resumes; those that have been begun with go on to their end;
- a board that only waits has not been begun with: it goes back to PENDING when the
  rollout halts, whyever it does;
- whatever happens, a rollout that is RUNNING has boards under way or begins with some.

Leaves to others: what is done on a board, storing, telling anybody.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from belayd.errors import RequestInvalid

MOST_AT_ONCE = 32
"""Boards at once where nobody says how many: each is a lease, a deployment and its contents."""

MOST_NAMED = 8
"""Boards named in why a rollout stopped; each board's own message tells of it anyway."""


class Step(enum.Enum):
    """How far a board is; the values are stored."""

    PENDING = "pending"
    WAITING = "waiting"
    DEPLOYING = "deploying"
    CHECKING = "checking"
    ROLLING_BACK = "rolling_back"
    DONE = "done"
    FAILED = "failed"

    @property
    def begun(self) -> bool:
        """Whether something is being done to the board."""
        return self in (Step.DEPLOYING, Step.CHECKING, Step.ROLLING_BACK)

    @property
    def ended(self) -> bool:
        """Whether nothing more will be done to the board."""
        return self in (Step.DONE, Step.FAILED)


class State(enum.Enum):
    """What a rollout is doing; the values are stored."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    DONE = "done"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Pace:
    """How a rollout goes; each as CreateRolloutRequest has it, 0 for what it says of 0."""

    canary: int = 0
    wave: int = 0
    parallel: int = 0
    max_failures: int = 0


class Course:
    """One rollout's boards, by their position in its order.

    Attributes:
        waves: Of each board; 0 are the canaries.
        steps, messages: Of each board; a message says what it waits for, or why it failed.
        state, why: What the rollout is doing, and why it is STOPPED, PAUSED or ABORTED, else "".
    """

    def __init__(self, pace: Pace, boards: Sequence[str]) -> None:
        self.pace = pace
        self.boards = tuple(boards)
        self.waves = waves(pace, len(self.boards))
        self.steps = [Step.PENDING] * len(self.boards)
        self.messages = [""] * len(self.boards)
        self.state = State.RUNNING
        self.why = ""

    @property
    def under_way(self) -> list[int]:
        """The boards whose turn has come and that have not ended."""
        return [at for at, step in enumerate(self.steps) if step is Step.WAITING or step.begun]

    @property
    def failed(self) -> list[int]:
        """The boards that failed."""
        return [at for at, step in enumerate(self.steps) if step is Step.FAILED]

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more."""
        return self.state in (State.DONE, State.ABORTED) and not self.under_way

    def restore(self, state: State, why: str, steps: Sequence[Step], messages: Sequence[str]) -> None:
        """Take what was kept of an earlier daemon's; boards that were under way are PENDING again."""
        self.state, self.why = state, why
        for at, (step, message) in enumerate(zip(steps, messages, strict=True)):
            self.steps[at], self.messages[at] = (step, message) if step.ended else (Step.PENDING, "")
        self._settle()

    def begin(self) -> list[int]:
        """Return the boards to begin with now; they are WAITING from here on."""
        if self.state is not State.RUNNING:
            return []
        room = (self.pace.parallel or MOST_AT_ONCE) - len(self.under_way)
        wave = min(
            (wave for wave, step in zip(self.waves, self.steps, strict=True) if not step.ended), default=None
        )
        pending = [
            at for at, step in enumerate(self.steps) if step is Step.PENDING and self.waves[at] == wave
        ]
        chosen = pending[: max(0, room)]
        for at in chosen:
            self.steps[at], self.messages[at] = Step.WAITING, ""
        return chosen

    def move(self, at: int, step: Step, message: str = "") -> None:
        """Note how far a board under way is; `succeed` and `fail` say how it ends."""
        assert self.steps[at] is Step.WAITING or self.steps[at].begun
        assert step.begun or step is self.steps[at]
        self.steps[at], self.messages[at] = step, message

    def succeed(self, at: int) -> None:
        """Note that a board under way has its files and works."""
        assert self.steps[at] is Step.WAITING or self.steps[at].begun
        self.steps[at], self.messages[at] = Step.DONE, ""
        self._settle()

    def fail(self, at: int, message: str) -> None:
        """Note that a board under way failed, and perhaps stop."""
        assert self.steps[at] is Step.WAITING or self.steps[at].begun
        self.steps[at], self.messages[at] = Step.FAILED, message
        self._settle()

    def pause(self, why: str) -> None:
        """Begin with no further board; does nothing to one that was stopped or paused.

        Raises:
            RequestInvalid: The rollout has ended.
        """
        self._refuse_ended("paused")
        if self.state is State.RUNNING:
            self._halt(State.PAUSED, why)

    def resume(self) -> None:
        """Go on; what failed before the rollout was stopped is tried again.

        Raises:
            RequestInvalid: The rollout has ended.
        """
        self._refuse_ended("resumed")
        if self.state is State.STOPPED:
            for at in self.failed:
                self.steps[at], self.messages[at] = Step.PENDING, ""
        self.state, self.why = State.RUNNING, ""
        self._settle()

    def abort(self, why: str) -> None:
        """End for good; does nothing to one that was aborted.

        Raises:
            RequestInvalid: The rollout is DONE.
        """
        if self.state is not State.ABORTED:
            self._refuse_ended("aborted")
            self._halt(State.ABORTED, why)

    def _settle(self) -> None:
        if self.state not in (State.RUNNING, State.PAUSED):
            return
        failed = self.failed
        canaries = [at for at in failed if self.waves[at] == 0]
        if canaries:
            self._halt(State.STOPPED, f"canary {self._names(canaries)} failed: {self.messages[canaries[0]]}")
        elif len(failed) > self.pace.max_failures:
            most = self.pace.max_failures
            self._halt(State.STOPPED, f"{len(failed)} failed and {most} may: {self._names(failed)}")
        elif all(step.ended for step in self.steps):
            self.state, self.why = State.DONE, ""

    def _halt(self, state: State, why: str) -> None:
        self.state, self.why = state, why
        for at, step in enumerate(self.steps):
            if step is Step.WAITING:
                self.steps[at], self.messages[at] = Step.PENDING, ""

    def _names(self, places: Sequence[int]) -> str:
        names = [self.boards[at] for at in places[:MOST_NAMED]]
        return ", ".join(names + ["..."] * (len(places) > MOST_NAMED))

    def _refuse_ended(self, verb: str) -> None:
        if self.state in (State.DONE, State.ABORTED):
            raise RequestInvalid(
                f"the rollout is {self.state.value} and cannot be {verb}; begin another", field="name"
            )


def waves(pace: Pace, count: int) -> tuple[int, ...]:
    """Return the wave of each of so many boards."""
    size = pace.wave or max(1, count)
    canaries = min(pace.canary, count)
    return (*(0 for _ in range(canaries)), *(1 + at // size for at in range(count - canaries)))
