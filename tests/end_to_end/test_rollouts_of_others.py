"""Who may do what with a rollout, and boards that are not to be had."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from belayd.access import Role
from belayd.selector import Selector
from belayd.tokens import Tokens, Wanted
from belayd_client import Client, HealthCheck, Refused, Rollout, RolloutPace, RolloutState, RolloutStep

BOARDS = {
    "left": {"simulated": {}, "labels": {"side": "left"}},
    "right": {"simulated": {}, "labels": {"side": "right"}},
    "away": {"serial": {"port": "/dev/nothing-there"}, "labels": {"side": "left"}},
}
GATED = HealthCheck(source="import os, time\nwhile 'gate' in os.listdir('/'): time.sleep_ms(5)")


class Lab:
    """A daemon with tokens: `ann` and `bob` are users, `eve` sees the right alone, `oz` operates."""

    def __init__(self, daemon: Callable[..., Any], source: Path) -> None:
        self.texts: dict[str, str] = {}
        self.daemon = daemon(BOARDS, False, prepare=self.prepare)
        self.source = source
        (source / "app.py").write_text("version = 2\n")

    def prepare(self, folder: Path) -> None:
        (folder / "state").mkdir(0o700)
        self.tokens = Tokens(folder / "state" / "access.sqlite")
        wanted = [
            Wanted("ann", Role.USER),
            Wanted("bob", Role.USER),
            Wanted("eve", Role.OPERATOR, Selector.parse("side=right")),
            Wanted("oz", Role.OPERATOR),
            Wanted("guest", Role.VIEWER),
        ]
        made = self.tokens.create(wanted, datetime.now(UTC))
        self.texts = {each.name: text for each, text in zip(wanted, made, strict=True)}

    def client(self, name: str) -> Client:
        return self.daemon.stack.enter_context(Client(self.daemon.address, token=self.texts[name]))

    def close_gate(self, board: str) -> Path:
        gate: Path = self.daemon.folder / "state" / "boards" / board / "gate"
        gate.parent.mkdir(parents=True, exist_ok=True)
        gate.touch()
        return gate


@pytest.fixture
def lab(daemon: Callable[..., Any], tmp_path: Path) -> Lab:
    return Lab(daemon, tmp_path)


def follow(client: Client, name: str, claim: Callable[[Rollout], bool]) -> Rollout:
    with contextlib.closing(client.watch_rollout(name)) as changes:
        return next(rollout for rollout in changes if claim(rollout))


def checking(rollout: Rollout) -> bool:
    return rollout.boards[0].step is RolloutStep.CHECKING


def test_its_creator_and_operators_who_see_its_boards_change_its_course(lab: Lab) -> None:
    gate = lab.close_gate("left")
    ann, bob, eve, oz, guest = map(lab.client, ("ann", "bob", "eve", "oz", "guest"))
    name = ann.create_rollout(lab.source, ["left"], check=GATED).name
    follow(ann, name, checking)

    for other in (bob, guest, eve):
        for change in (other.pause_rollout, other.resume_rollout, other.abort_rollout):
            with pytest.raises(Refused):
                change(name)
    assert [rollout.name for rollout in bob.rollouts()] == [name]
    assert guest.get_rollout(name).principal == "ann"
    assert eve.rollouts() == []
    with pytest.raises(Refused, match="not among those of 'eve'"):
        eve.get_rollout(name)
    assert ann.pause_rollout(name).state is RolloutState.PAUSED
    assert oz.resume_rollout(name).state is RolloutState.RUNNING
    assert oz.abort_rollout(name, "no").state_reason == "aborted by oz: no"
    gate.unlink()
    assert follow(ann, name, lambda rollout: rollout.ended is not None).boards[0].step is RolloutStep.DONE


def test_nobody_rolls_out_to_boards_that_are_not_theirs(lab: Lab) -> None:
    eve = lab.client("eve")

    with pytest.raises(Refused, match="'left' is not among those of 'eve'"):
        eve.create_rollout(lab.source, ["left", "right"])
    with pytest.raises(Refused):
        lab.client("guest").create_rollout(lab.source, ["right"])
    mine = eve.create_rollout(lab.source, selector="side")
    assert [board.board for board in mine.boards] == ["right"]
    assert follow(eve, mine.name, lambda rollout: rollout.halted).state is RolloutState.DONE


def test_one_whose_creator_may_come_in_no_more_is_paused(lab: Lab) -> None:
    gate = lab.close_gate("left")
    oz = lab.client("oz")
    pace = RolloutPace(parallel=1)
    name = lab.client("ann").create_rollout(lab.source, ["left", "right"], check=GATED, pace=pace).name
    follow(oz, name, checking)

    lab.tokens.revoke("ann", datetime.now(UTC))
    paused = follow(oz, name, lambda rollout: rollout.state is RolloutState.PAUSED)
    gate.unlink()
    quiet = follow(oz, name, lambda rollout: rollout.halted)
    oz.resume_rollout(name)
    again = follow(oz, name, lambda rollout: rollout.state is RolloutState.PAUSED)

    assert "'ann' was revoked" in paused.state_reason
    assert [board.step for board in quiet.boards] == [RolloutStep.DONE, RolloutStep.PENDING]
    assert [board.step for board in again.boards] == [RolloutStep.DONE, RolloutStep.PENDING]


def test_a_board_that_is_offline_is_waited_for_and_fails_in_time(lab: Lab) -> None:
    ann = lab.client("ann")
    name = ann.create_rollout(lab.source, ["away"], timeout=2.0).name

    waiting = follow(ann, name, lambda rollout: "offline" in rollout.boards[0].message)
    ended = follow(ann, name, lambda rollout: rollout.halted)

    assert waiting.boards[0].step is RolloutStep.WAITING
    assert ended.boards[0].step is RolloutStep.FAILED
    assert ended.boards[0].message.endswith("; nothing was changed")


def test_a_board_out_of_service_is_waited_for_until_it_is_back(lab: Lab) -> None:
    address = f"unix:{lab.daemon.folder / 'state' / 'belayd.sock'}"
    assert lab.daemon.belayctl("disable", "left", "--reason", "mine", BELAYD_ADDRESS=address).returncode == 0
    ann = lab.client("ann")
    name = ann.create_rollout(lab.source, ["left"]).name
    waiting = follow(ann, name, lambda rollout: "disabled" in rollout.boards[0].message)

    assert lab.daemon.belayctl("enable", "left", BELAYD_ADDRESS=address).returncode == 0
    ended = follow(ann, name, lambda rollout: rollout.halted)

    assert waiting.boards[0].step is RolloutStep.WAITING
    assert ended.state is RolloutState.DONE


def test_so_many_that_have_not_ended_may_one_have(lab: Lab) -> None:
    ann = lab.client("ann")
    for _ in range(8):
        ann.create_rollout(lab.source, ["away"])

    with pytest.raises(Exception, match="'ann' has 8 rollouts that have not ended, and may have 8"):
        ann.create_rollout(lab.source, ["right"])
    bobs = lab.client("bob").create_rollout(lab.source, ["right"])

    assert follow(ann, bobs.name, lambda rollout: rollout.halted).state is RolloutState.DONE


def test_what_was_done_is_in_the_audit_trail(lab: Lab) -> None:
    ann = lab.client("ann")
    name = ann.create_rollout(lab.source, ["right"], reason="spring").name
    follow(ann, name, lambda rollout: rollout.halted)
    with pytest.raises(Exception, match="done"):
        ann.abort_rollout(name, "late")

    found = {event.action: event for event in lab.client("oz").audit() if event.principal == "ann"}

    created = found["DeploymentService/CreateRollout"]
    assert (created.outcome, created.detail) == ("ok", f"rollouts/{name}, 1 board: spring")
    deployed = found["rollout/deployed"]
    assert (deployed.board, deployed.outcome, deployed.detail) == ("right", "ok", f"rollouts/{name}")
    aborted = found["DeploymentService/AbortRollout"]
    assert (aborted.outcome, aborted.detail) == ("rejected", f"rollouts/{name}: late")
