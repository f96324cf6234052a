"""Who comes in through which door, and who does not."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from belayd.access import LOCAL, Principal, Role
from belayd.entrance import LOOPBACK, Caller, Door, Entrance, bearer
from belayd.errors import Unauthenticated
from belayd.selector import Selector
from belayd.tokens import Tokens, Wanted

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RP2 = Selector.parse("chip=rp2")
TLS = Door(loopback=False, encrypted=True)
CLEAR = Door(loopback=False)
OPEN = Door(loopback=False, open=True)
OPEN_TLS = Door(loopback=False, encrypted=True, open=True)
SOCKET = Door(loopback=True, owner="unix:lab")


class House:
    def __init__(self, folder: Path) -> None:
        self.now = NOON
        self.failures: Counter[str] = Counter()
        self.tokens = Tokens(folder / "access.sqlite")
        self.entrance = Entrance(self.tokens, self.count, now=lambda: self.now, clock=lambda: 0.0)

    def count(self, reason: str) -> None:
        self.failures[reason] += 1

    def make(self, name: str, role: Role = Role.USER, **more) -> Caller:
        [text] = self.tokens.create([Wanted(name, role, **more)], NOON)
        return shows(text)

    async def refuses(self, door: Door, caller: Caller) -> str:
        with pytest.raises(Unauthenticated) as caught:
            await self.entrance.admit(door, caller)
        problem = caught.value.fields["problem"]
        assert self.failures[problem] == 1
        return problem


def shows(text: str) -> Caller:
    token, problem = bearer([f"Bearer {text}"])
    return Caller("10.0.0.7", token, (), problem)


NOTHING = Caller("10.0.0.7")


def certificate(*names: str) -> Caller:
    return Caller("10.0.0.7", names=names)


@pytest.fixture
async def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    await house.entrance.open()
    return house


@pytest.mark.parametrize(
    "door", [LOOPBACK, OPEN, OPEN_TLS], ids=["loopback", "insecure", "insecure with TLS"]
)
async def test_whoever_shows_nothing_is_the_local_user_where_that_is_permitted(
    house: House, door: Door
) -> None:
    assert await house.entrance.admit(door, NOTHING) == LOCAL
    assert LOCAL.role is Role.USER


@pytest.mark.parametrize("door", [TLS, CLEAR], ids=["tls", "clear"])
async def test_whoever_shows_nothing_beyond_loopback_is_refused(house: House, door: Door) -> None:
    assert await house.refuses(door, NOTHING) == "missing"


async def test_whoever_opens_the_unix_socket_is_administrator(house: House) -> None:
    assert await house.entrance.admit(SOCKET, NOTHING) == Principal("unix:lab", Role.ADMIN)


@pytest.mark.parametrize(
    "door", [TLS, OPEN_TLS, SOCKET, LOOPBACK], ids=["tls", "open tls", "unix", "loopback"]
)
async def test_a_token_is_its_principal_through_any_safe_door(house: House, door: Door) -> None:
    caller = house.make("ann", Role.OPERATOR, selector=RP2)

    assert await house.entrance.admit(door, caller) == Principal("ann", Role.OPERATOR, RP2)


@pytest.mark.parametrize("door", [CLEAR, OPEN], ids=["clear", "insecure"])
async def test_a_token_that_came_in_the_clear_is_refused_though_it_is_right(house: House, door: Door) -> None:
    assert await house.refuses(door, house.make("ann")) == "in_the_clear"


@pytest.mark.parametrize("door", [TLS, SOCKET, LOOPBACK], ids=["tls", "unix", "loopback"])
async def test_a_wrong_token_is_refused_even_where_none_is_needed(house: House, door: Door) -> None:
    house.make("ann")

    assert await house.refuses(door, shows("bt_wrong")) == "unknown"


@pytest.mark.parametrize(
    "headers",
    [["Basic YTpi"], ["Bearer"], ["Bearer "], ["Bearer a", "Bearer b"], ["Bearer " + "x" * 5000], [""]],
    ids=["basic", "no token", "empty", "two", "long", "nothing"],
)
async def test_a_header_of_another_form_is_refused(house: House, headers: list[str]) -> None:
    token, problem = bearer(headers)

    assert await house.refuses(TLS, Caller("10.0.0.7", token, (), problem)) == "malformed"


async def test_a_token_is_refused_from_the_moment_it_expires(house: House) -> None:
    caller = house.make("ann", expires=NOON + timedelta(hours=1))
    await house.entrance.admit(TLS, caller)

    house.now = NOON + timedelta(hours=1)

    assert await house.refuses(TLS, caller) == "expired"


async def test_a_token_is_refused_as_soon_as_it_is_revoked(house: House) -> None:
    caller = house.make("ann")
    await house.entrance.admit(TLS, caller)

    house.tokens.revoke("ann", NOON)

    assert await house.refuses(TLS, caller) == "revoked"


async def test_a_token_made_meanwhile_is_known_at_once(house: House) -> None:
    assert await house.refuses(TLS, shows("bt_x")) == "unknown"

    assert (await house.entrance.admit(TLS, house.make("ann"))).name == "ann"


async def test_a_certificates_first_name_is_the_principal_and_a_user(house: House) -> None:
    principal = await house.entrance.admit(TLS, certificate("ann@desk", "desk.example"))

    assert principal == Principal("ann@desk", Role.USER)


async def test_the_entry_of_its_name_says_what_a_certificates_holder_may_do(house: House) -> None:
    house.tokens.create([Wanted("ann@desk", Role.ADMIN, RP2, certificate=True)], NOON)

    assert await house.entrance.admit(TLS, certificate("ann@desk")) == Principal("ann@desk", Role.ADMIN, RP2)


async def test_a_certificate_whose_name_was_revoked_is_refused(house: House) -> None:
    house.tokens.revoke("ann@desk", NOON, certificate=True)

    assert await house.refuses(TLS, certificate("ann@desk")) == "revoked"


@pytest.mark.parametrize("name", ["local", "unix:root", "a b", "*.example", ""])
async def test_a_certificate_cannot_pass_for_somebody_without_one(house: House, name: str) -> None:
    assert await house.refuses(TLS, certificate(name)) == "certificate"


async def test_a_token_wins_over_the_certificate_it_comes_with(house: House) -> None:
    caller = house.make("ann", Role.OPERATOR)

    admitted = await house.entrance.admit(TLS, Caller("10.0.0.7", caller.token, ("desk",)))
    assert admitted == Principal("ann", Role.OPERATOR)


async def test_no_token_counts_while_the_file_cannot_be_read(house: House, tmp_path: Path) -> None:
    caller = house.make("ann")
    before = await house.entrance.admit(TLS, caller)

    (tmp_path / "access.sqlite").write_bytes(b"damaged" * 1000)

    assert await house.refuses(TLS, caller) == "unreadable"
    assert house.entrance.recheck(TLS, caller, before) is None, "whoever is in may stay"
    assert await house.entrance.admit(LOOPBACK, NOTHING) == LOCAL


async def test_a_mended_file_counts_again(house: House, tmp_path: Path) -> None:
    caller = house.make("ann")
    (tmp_path / "access.sqlite").chmod(0o644)
    (tmp_path / "access.sqlite").touch()
    assert await house.refuses(TLS, caller) == "unreadable"

    (tmp_path / "access.sqlite").chmod(0o600)  # changes no stamp that requests look at
    await house.entrance.watch()

    assert (await house.entrance.admit(TLS, caller)).name == "ann"


async def test_whoever_is_in_has_to_leave_when_its_rights_end_or_change(house: House) -> None:
    revoked, expiring, named = house.make("a"), house.make("b", expires=NOON + timedelta(1)), certificate("c")
    callers = [revoked, expiring, named]
    inside = [await house.entrance.admit(TLS, caller) for caller in callers]

    def problems() -> list[str | None]:
        errors = [house.entrance.recheck(TLS, *each) for each in zip(callers, inside, strict=True)]
        return [error.fields["problem"] if error else None for error in errors]

    assert problems() == [None, None, None]
    house.tokens.revoke("a", NOON)
    house.tokens.create([Wanted("c", Role.VIEWER, certificate=True)], NOON)
    house.now += timedelta(1)
    await house.entrance.watch()
    assert problems() == ["revoked", "expired", "revoked"]


async def test_a_thousand_at_once_read_a_changed_file_once(house: House) -> None:
    caller = house.make("ann")
    async with asyncio.timeout(30):
        admitted = await asyncio.gather(*(house.entrance.admit(TLS, caller) for _ in range(1000)))

    assert {principal.name for principal in admitted} == {"ann"}


async def test_ten_thousand_bad_attempts_stay_cheap_and_lock_out_nobody(house: House) -> None:
    caller = house.make("ann")
    bad = [asyncio.create_task(house.entrance.admit(TLS, shows(f"bt_{n}"))) for n in range(10_000)]

    async with asyncio.timeout(60):
        # from the very address that the bad ones come from
        assert (await house.entrance.admit(TLS, caller)).name == "ann"
        ends = await asyncio.gather(*bad, return_exceptions=True)

    assert {type(end) for end in ends} == {Unauthenticated}
    assert house.failures == {"unknown": 10_000}


async def test_no_refusal_repeats_what_was_shown(house: House) -> None:
    caller = house.make("ann")
    house.tokens.revoke("ann", NOON)
    for shown in (caller, shows("bt_a-secret-of-mine")):
        with pytest.raises(Unauthenticated) as caught:
            await house.entrance.admit(TLS, shown)
        assert "bt_a-secret" not in str(caught.value) + str(caught.value.fields)
    assert "bt_a-secret" not in repr(shows("bt_a-secret-of-mine"))
