"""The file of tokens: what is kept, what is refused, and that a change shows."""

from __future__ import annotations

import os
import sqlite3
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from belayd.access import Role
from belayd.errors import RequestInvalid
from belayd.selector import Selector
from belayd.tokens import PREFIX, Table, Tokens, TokensFailed, Wanted, digest

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ANN = Wanted("ann", Role.USER, Selector.parse("chip=rp2"), NOON + timedelta(days=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.sqlite"


@pytest.fixture
def tokens(path: Path) -> Tokens:
    return Tokens(path)


def test_no_file_holds_no_tokens(tokens: Tokens) -> None:
    assert tokens.signature() is None
    assert tokens.read() == []


def test_a_token_is_read_back_as_its_hash_and_rights(tokens: Tokens, path: Path) -> None:
    [text] = tokens.create([ANN], NOON)

    [entry] = tokens.read()
    assert (entry.name, entry.role, str(entry.selector)) == ("ann", Role.USER, "chip=rp2")
    assert (entry.created, entry.expires, entry.revoked) == (NOON, NOON + timedelta(days=1), None)
    assert entry.digest == digest(text)
    assert text.removeprefix(PREFIX).encode() not in path.read_bytes()


def test_tokens_are_long_and_never_the_same(tokens: Tokens) -> None:
    texts = tokens.create([Wanted(f"user-{n}", Role.USER) for n in range(50)], NOON)

    assert len(set(texts)) == 50
    assert {text[: len(PREFIX)] for text in texts} == {PREFIX}
    assert min(len(text) for text in texts) >= len(PREFIX) + 43  # 256 bits in base64


def test_the_file_is_for_its_owner_alone(tokens: Tokens, path: Path) -> None:
    tokens.create([ANN], NOON)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_the_folders_owner(tokens: Tokens, path: Path) -> None:
    os.chown(path.parent, 1234, 1234)

    tokens.create([ANN], NOON)

    assert path.stat().st_uid == 1234


def test_a_file_that_others_can_read_is_refused(tokens: Tokens, path: Path) -> None:
    tokens.create([ANN], NOON)
    path.chmod(0o640)

    with pytest.raises(TokensFailed, match="chmod 600"):
        tokens.read()


def test_every_change_shows_in_the_signature(tokens: Tokens) -> None:
    signatures = [tokens.signature()]
    for number in range(20):
        tokens.create([Wanted(f"user-{number}", Role.USER)], NOON)
        signatures.append(tokens.signature())
        tokens.revoke(f"user-{number}", NOON)
        signatures.append(tokens.signature())

    assert len(set(signatures)) == len(signatures)


def test_a_batch_is_made_as_a_whole_or_not_at_all(tokens: Tokens) -> None:
    tokens.create([ANN], NOON)

    with pytest.raises(TokensFailed, match="'ann' has a token"):
        tokens.create([Wanted("bob", Role.USER), ANN], NOON)

    assert [entry.name for entry in tokens.read()] == ["ann"]


def test_a_name_twice_in_a_batch_is_refused(tokens: Tokens) -> None:
    with pytest.raises(TokensFailed, match="'ann'"):
        tokens.create([ANN, ANN], NOON)


@pytest.mark.parametrize("name", ["", "unix:root", "local", "a b", "-x", "ä", "a" * 64, "../x", "a\n"])
def test_a_name_that_could_mean_somebody_else_is_refused(tokens: Tokens, name: str) -> None:
    with pytest.raises(RequestInvalid):
        tokens.create([Wanted(name, Role.USER)], NOON)


def test_a_revoked_name_may_be_given_again_and_its_old_token_stays_revoked(tokens: Tokens) -> None:
    [old] = tokens.create([ANN], NOON)
    tokens.revoke("ann", NOON)
    [new] = tokens.create([ANN], NOON)

    table = Table(tokens.read())
    states = {text: table.of_token(digest(text)).state(NOON) for text in (old, new)}
    assert states == {old: "revoked", new: "valid"}
    assert table.of_name("ann").state(NOON) == "valid"


def test_a_token_expires_at_its_moment(tokens: Tokens) -> None:
    tokens.create([ANN], NOON)
    [entry] = tokens.read()

    assert entry.state(NOON + timedelta(days=1, seconds=-1)) == "valid"
    assert entry.state(NOON + timedelta(days=1)) == "expired"


def test_an_unknown_name_cannot_be_revoked_and_the_message_says_how_to_keep_out_a_certificate(
    tokens: Tokens,
) -> None:
    with pytest.raises(TokensFailed, match="revoke --certificate eve"):
        tokens.revoke("eve", NOON)


def test_a_certificate_without_an_entry_can_be_kept_out(tokens: Tokens) -> None:
    tokens.revoke("eve", NOON, certificate=True)

    assert Table(tokens.read()).of_name("eve").state(NOON) == "revoked"


def test_a_damaged_file_is_refused_and_left_as_it_is(tokens: Tokens, path: Path) -> None:
    path.touch(0o600)
    path.write_bytes(b"not a database " * 300)

    with pytest.raises(TokensFailed, match=r"access\.sqlite"):
        tokens.read()
    with pytest.raises(TokensFailed, match=r"access\.sqlite"):
        tokens.create([ANN], NOON)

    assert path.read_bytes() == b"not a database " * 300


@pytest.mark.parametrize(
    ("pragma", "says"), [("user_version = 9", "another version"), ("application_id = 7", "not belayd's")]
)
def test_a_file_of_another_program_or_version_is_refused(
    tokens: Tokens, path: Path, pragma: str, says: str
) -> None:
    tokens.create([ANN], NOON)
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA {pragma}")
    database.close()

    with pytest.raises(TokensFailed, match=says):
        tokens.read()


def test_a_token_is_found_only_by_its_own_hash(tokens: Tokens) -> None:
    [text] = tokens.create([ANN], NOON)
    table = Table(tokens.read())

    assert table.of_token(digest(text)).name == "ann"
    assert table.of_token(digest(text[:-1])) is None
    assert table.of_token(digest("")) is None
