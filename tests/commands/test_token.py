"""`belayd token`, as a process: what it prints, keeps and refuses."""

from __future__ import annotations

import csv
import io
import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from belayd.tokens import Table, Tokens, digest


def token(state: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "belayd", "token", *words, "--state", state]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def table(state: Path) -> Table:
    return Table(Tokens(state / "access.sqlite").read())


def test_a_token_is_alone_on_stdout_and_counts(tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = token(state, "create", "ann", "--role", "user", "--selector", "chip=rp2")

    assert done.returncode == 0, done.stderr
    entry = table(state).of_token(digest(done.stdout.strip()))
    assert (entry.name, str(entry.selector)) == ("ann", "chip=rp2")
    assert timedelta(days=89) < entry.expires - datetime.now(UTC) <= timedelta(days=90)
    assert "shown once" in done.stderr
    assert done.stdout.strip() not in done.stderr
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("text", "lives"), [("never", None), ("30m", timedelta(minutes=30)), ("12h", timedelta(hours=12))]
)
def test_a_token_expires_when_it_should(tmp_path: Path, text: str, lives: timedelta | None) -> None:
    token(tmp_path, "create", "ann", "--role", "user", "--expires", text)

    entry = table(tmp_path).of_name("ann")
    assert (entry.expires - entry.created if entry.expires else None) == lives


def test_the_list_shows_everything_but_the_tokens(tmp_path: Path) -> None:
    text = token(tmp_path, "create", "ann", "--role", "operator").stdout.strip()
    token(tmp_path, "create", "bob@desk", "--role", "admin", "--certificate")
    token(tmp_path, "revoke", "ann")

    shown, parsed = token(tmp_path, "list"), json.loads(token(tmp_path, "list", "--json").stdout)

    assert [line.split()[:1] + line.split()[1:2] for line in shown.stdout.splitlines()] == [
        ["NAME", "ROLE"],
        ["ann", "operator"],
        ["bob@desk", "admin"],
    ]
    assert [(row["name"], row["kind"], row["state"]) for row in parsed] == [
        ("ann", "token", "revoked"),
        ("bob@desk", "certificate", "valid"),
    ]
    assert text[3:] not in shown.stdout + json.dumps(parsed)


def test_a_batch_becomes_a_csv_of_names_and_tokens(tmp_path: Path) -> None:
    course = tmp_path / "course.csv"
    course.write_text(
        'name,role,selector,expires\nann,user,chip=rp2,7d\nbob,viewer,,\ncarl,,"chip=rp2,rack=2",never\n'
    )

    done = token(tmp_path, "create", "--from", course)

    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    entries = [table(tmp_path).of_token(digest(row["token"])) for row in rows]
    assert [(row["name"], entry.name, entry.role.name) for row, entry in zip(rows, entries, strict=True)] == [
        ("ann", "ann", "USER"),
        ("bob", "bob", "VIEWER"),
        ("carl", "carl", "USER"),
    ]
    assert [str(entry.selector) for entry in entries] == ["chip=rp2", "", "chip=rp2,rack=2"]
    assert entries[2].expires is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,rolle\nann,user\n", "course.csv:1:"),
        ("role\nuser\n", "course.csv:1:"),
        ("name,role\nann,boss\n", "course.csv:2: 'boss' is no role"),
        ("name,selector\nann,chip=rp2,rack=2\n", "course.csv:2: more values"),
        ("name,selector\nann,chip=*\n", "course.csv:2:"),
        ("name,expires\nann,soon\n", "course.csv:2: 'soon'"),
        ("name\nann\nann\n", "'ann' has a token"),
        ("name\nlocal\n", "course.csv:2:"),
        ("name\n", "no names"),
        ("", "course.csv:1:"),
    ],
)
def test_a_batch_with_a_mistake_makes_none_and_says_where(tmp_path: Path, text: str, says: str) -> None:
    course = tmp_path / "course.csv"
    course.write_text(text)

    done = token(tmp_path, "create", "--from", course)

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert Tokens(tmp_path / "access.sqlite").read() == []


@pytest.mark.parametrize(
    "words",
    [
        ("create",),
        ("create", "ann"),
        ("create", "ann", "--role", "boss"),
        ("create", "unix:ann", "--role", "user"),
        ("create", "ann", "--role", "user", "--expires", "0d"),
        ("create", "ann", "--role", "user", "--selector", "a=*"),
        ("create", "--from", "missing.csv"),
        ("revoke", "nobody"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_exits_with_2_and_a_reason(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = token(tmp_path, *words)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr
