"""A rollout drawn on a terminal, and told line by line elsewhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from belayd_client.cli.livetable import Lines, LiveTable, draw
from belayd_client.rollouts import Rollout, RolloutBoard, RolloutState, RolloutStep


def board(name: str, step: RolloutStep = RolloutStep.PENDING, message: str = "") -> RolloutBoard:
    written = 50 if step is RolloutStep.DEPLOYING else 0
    return RolloutBoard(name, 1, step, message, written, 100 if written else 0, 0, 0.0)


def rollout(*boards: RolloutBoard, state: RolloutState = RolloutState.RUNNING, why: str = "") -> Rollout:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    return Rollout("3f9a", state, why, "ann", "", now, None, boards, 0, 0, 0, 0)


def test_every_board_has_its_line_in_order() -> None:
    drawn = draw(
        rollout(board("a", RolloutStep.DONE), board("b", RolloutStep.DEPLOYING), board("c")),
        columns=80,
        height=10,
    )

    assert drawn == [
        "[########................] 1/3 done, 0 failed; rollout 3f9a running",
        "a  1  done       -         -",
        "b  1  deploying  50/100 B  -",
        "c  1  pending    -         -",
    ]


def test_what_a_small_terminal_has_no_room_for_is_counted_and_what_failed_is_shown() -> None:
    boards = [board(f"board-{number:02}") for number in range(30)]
    boards[17] = board("board-17", RolloutStep.FAILED, "no sensor")
    boards[23] = board("board-23", RolloutStep.WAITING, "offline")

    drawn = draw(rollout(*boards), columns=60, height=6)

    assert [line.split()[0] for line in drawn[1:]] == ["board-00", "board-01", "board-17", "board-23", "..."]
    assert drawn[-1] == "... and 26 more"


def test_no_line_is_wider_than_the_terminal_and_none_obeys_what_a_board_says() -> None:
    drawn = draw(rollout(board("a", RolloutStep.FAILED, "\x1b[2Jx" * 30), why="\n" * 9), columns=40, height=5)

    assert max(map(len, drawn)) <= 40
    assert all(line.isprintable() for line in drawn)


@pytest.mark.parametrize("message", ["日" * 60, "a" + "日" * 60, "x" * 60])
def test_wide_letters_take_two_columns(message: str) -> None:
    line = draw(rollout(board("a", RolloutStep.FAILED, message)), columns=40, height=5)[1]

    wide = line.count("日")
    assert 39 <= len(line) + wide <= 40


def test_the_table_is_drawn_over_itself_and_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    table = LiveTable()

    table.show(rollout(board("a"), board("b")))
    first = capsys.readouterr().err
    table.show(rollout(board("a", RolloutStep.DONE), board("b")))
    second = capsys.readouterr().err
    table.clear()
    table.clear()

    assert first.count("\n") == 3
    assert second.startswith("\x1b[3F\x1b[J")
    assert capsys.readouterr().err == "\x1b[3F\x1b[J"


def test_elsewhere_each_step_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(quiet=False)
    waiting = board("a", RolloutStep.WAITING, "bob holds it")

    for each in (
        board("a"),
        waiting,
        waiting,
        board("a", RolloutStep.DEPLOYING),
        board("a", RolloutStep.DONE),
    ):
        lines.show(rollout(each))
    lines.show(replace(rollout(board("a", RolloutStep.DONE)), state=RolloutState.DONE))

    assert capsys.readouterr().err.splitlines() == [
        "belayctl: rollout 3f9a: running",
        "belayctl: a: waiting: bob holds it",
        "belayctl: a: deploying",
        "belayctl: a: done",
        "belayctl: rollout 3f9a: done",
    ]
