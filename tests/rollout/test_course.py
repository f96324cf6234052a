"""The order of a rollout: canaries, waves, the budget, and every moment at which somebody may halt it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from belayd.errors import RequestInvalid
from belayd.rollout.course import MOST_AT_ONCE, Course, Pace, State, Step, waves


def course(count: int, **pace: int) -> Course:
    return Course(Pace(**pace), [f"board-{number}" for number in range(count)])


def succeed(rollout: Course, *places: int) -> None:
    for at in places:
        rollout.move(at, Step.DEPLOYING)
        rollout.succeed(at)


@pytest.mark.parametrize(
    ("pace", "count", "expected"),
    [
        (Pace(), 3, (1, 1, 1)),
        (Pace(canary=1), 4, (0, 1, 1, 1)),
        (Pace(canary=2, wave=2), 7, (0, 0, 1, 1, 2, 2, 3)),
        (Pace(canary=9, wave=2), 2, (0, 0)),
    ],
    ids=["one wave of all", "a canary", "canaries and waves", "canaries only"],
)
def test_boards_go_in_waves_after_the_canaries(pace: Pace, count: int, expected: tuple[int, ...]) -> None:
    assert waves(pace, count) == expected


def test_nothing_is_begun_with_until_every_canary_has_succeeded() -> None:
    rollout = course(6, canary=2)

    assert rollout.begin() == [0, 1]
    succeed(rollout, 0)
    assert rollout.begin() == []
    succeed(rollout, 1)
    assert rollout.begin() == [2, 3, 4, 5]


def test_a_canary_that_fails_stops_the_rollout_whatever_the_budget() -> None:
    rollout = course(24, canary=1, max_failures=24)
    rollout.begin()

    rollout.fail(0, "its check is not true")

    assert (rollout.state, rollout.why) == (State.STOPPED, "canary board-0 failed: its check is not true")
    assert rollout.begin() == []
    assert rollout.steps == [Step.FAILED, *[Step.PENDING] * 23]


def test_the_failure_beyond_the_budget_stops_it_and_what_was_begun_goes_on() -> None:
    rollout = course(6, parallel=4, max_failures=2)
    assert rollout.begin() == [0, 1, 2, 3]
    for at in (0, 1, 2):
        rollout.move(at, Step.DEPLOYING)

    rollout.fail(0, "no")
    rollout.fail(1, "no")
    assert (rollout.state, rollout.begin()) == (State.RUNNING, [4, 5])
    rollout.move(4, Step.CHECKING)
    rollout.fail(2, "no")

    assert (rollout.state, rollout.why) == (State.STOPPED, "3 failed and 2 may: board-0, board-1, board-2")
    assert rollout.steps[3:] == [Step.PENDING, Step.CHECKING, Step.PENDING]
    rollout.succeed(4)
    assert rollout.steps[4] is Step.DONE


def test_resuming_what_was_stopped_tries_its_failures_again() -> None:
    rollout = course(3, wave=1)
    assert rollout.begin() == [0]
    rollout.fail(0, "no")
    assert rollout.state is State.STOPPED

    rollout.resume()

    assert rollout.begin() == [0]
    succeed(rollout, 0)
    assert rollout.begin() == [1]


def test_resuming_what_was_paused_still_counts_its_failures() -> None:
    rollout = course(3, max_failures=1)
    rollout.begin()
    rollout.fail(0, "no")
    rollout.pause("lunch")

    rollout.resume()

    assert rollout.begin() == [1, 2]
    rollout.fail(1, "no")
    assert rollout.state is State.STOPPED


@pytest.mark.parametrize("parallel", [0, 100])
def test_as_many_go_at_once_as_may(parallel: int) -> None:
    assert len(course(200, parallel=parallel).begin()) == (parallel or MOST_AT_ONCE)


def test_one_that_has_ended_is_neither_paused_nor_resumed_nor_aborted() -> None:
    rollout = course(1)
    rollout.begin()
    succeed(rollout, 0)

    assert rollout.ended
    for halt in (lambda: rollout.pause(""), rollout.resume, lambda: rollout.abort("")):
        with pytest.raises(RequestInvalid, match="is done"):
            halt()


def test_an_aborted_one_ends_when_those_under_way_have() -> None:
    rollout = course(3)
    rollout.begin()
    rollout.move(0, Step.DEPLOYING)

    rollout.abort("enough")
    rollout.abort("again")

    assert (rollout.state, rollout.why, rollout.ended) == (State.ABORTED, "enough", False)
    rollout.fail(0, "no")
    assert (rollout.state, rollout.ended) == (State.ABORTED, True)
    assert rollout.steps == [Step.FAILED, Step.PENDING, Step.PENDING]


def test_after_a_restart_what_was_under_way_is_done_again() -> None:
    rollout = course(5, max_failures=1)
    steps = [Step.DONE, Step.FAILED, Step.DEPLOYING, Step.ROLLING_BACK, Step.WAITING]

    rollout.restore(State.RUNNING, "", steps, ["", "no", "", "", "offline"])

    assert rollout.begin() == [2, 3, 4]
    assert rollout.messages == ["", "no", "", "", ""]


class Rollout(RuleBasedStateMachine):
    """Boards end as they like, and somebody halts and resumes whenever they like."""

    @initialize(
        count=st.integers(1, 12),
        canary=st.integers(0, 3),
        wave=st.integers(0, 5),
        parallel=st.integers(0, 4),
        max_failures=st.integers(0, 3),
    )
    def begin(self, count: int, **pace: int) -> None:
        self.course = course(count, **pace)
        self.advance()

    def advance(self) -> None:
        before = list(self.course.steps)
        for at in self.course.begin():
            assert before[at] is Step.PENDING
            wave = self.course.waves[at]
            earlier = [step for other, step in zip(self.course.waves, before, strict=True) if other < wave]
            canaries = [step for other, step in zip(self.course.waves, before, strict=True) if other == 0]
            assert all(step.ended for step in earlier)
            assert wave == 0 or all(step is Step.DONE for step in canaries)
            assert self.course.state is State.RUNNING

    def chosen(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(self.course.under_way))

    @precondition(lambda self: self.course.under_way)
    @rule(data=st.data(), step=st.sampled_from([Step.DEPLOYING, Step.CHECKING, Step.ROLLING_BACK]))
    def go_on(self, data: st.DataObject, step: Step) -> None:
        self.course.move(self.chosen(data), step, "message")

    @precondition(lambda self: self.course.under_way)
    @rule(data=st.data(), good=st.booleans())
    def end(self, data: st.DataObject, good: bool) -> None:
        at = self.chosen(data)
        if good:
            self.course.succeed(at)
        else:
            self.course.fail(at, "no")
        self.advance()

    @precondition(lambda self: self.course.state not in (State.DONE, State.ABORTED))
    @rule()
    def pause(self) -> None:
        self.course.pause("lunch")

    @precondition(lambda self: self.course.state not in (State.DONE, State.ABORTED))
    @rule()
    def resume(self) -> None:
        self.course.resume()
        self.advance()

    @precondition(lambda self: self.course.state not in (State.DONE, State.ABORTED) and self.course.failed)
    @rule()
    def abort(self) -> None:
        self.course.abort("enough")

    @rule()
    def restart(self) -> None:
        old = self.course
        self.course = Course(old.pace, old.boards)
        self.course.restore(old.state, old.why, old.steps, old.messages)
        self.advance()

    @invariant()
    def bounds_hold(self) -> None:
        rollout = self.course
        assert len(rollout.under_way) <= (rollout.pace.parallel or MOST_AT_ONCE)
        assert rollout.state is State.RUNNING or Step.WAITING not in rollout.steps

    @invariant()
    def it_stops_exactly_when_it_has_to(self) -> None:
        rollout = self.course
        canary_failed = any(rollout.waves[at] == 0 for at in rollout.failed)
        too_many = canary_failed or len(rollout.failed) > rollout.pace.max_failures
        assert rollout.state in (State.STOPPED, State.ABORTED) or not too_many
        assert rollout.state is not State.STOPPED or too_many

    @invariant()
    def it_never_stands_still(self) -> None:
        rollout = self.course
        assert rollout.state is not State.RUNNING or rollout.under_way
        assert (rollout.state is State.DONE) == (
            all(step.ended for step in rollout.steps) and rollout.state not in (State.STOPPED, State.ABORTED)
        )


Rollout.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestRollout = Rollout.TestCase
