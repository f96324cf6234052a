"""`belayctl fs` and the client's files, on simulated boards and a micro:bit, beside mpremote."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from belayd_client import Client
from belayd_client.errors import NotFound, PreparationFailed, RequestInvalid

NAMES = ['it\'s "so".py', " a b ", "grüße 日本 \U0001f600", "back\\slash", "%s{}#", "\t\x01\x04\n"]
BIG = random.Random(1).randbytes(2 << 20)
EVERY_BYTE = bytes(range(256))


@pytest.fixture
def lab(daemon, sim):
    return daemon({"sim-1": sim, "sim-2": sim})


def done(ended: subprocess.CompletedProcess[str]) -> str:
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }


def test_a_file_goes_there_and_back(lab, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(BIG)

    done(lab.belayctl("fs", "cp", tmp_path / "a.bin", "sim-1:"))
    done(lab.belayctl("fs", "cp", "sim-1:a.bin", "sim-2:/b.bin"))
    done(lab.belayctl("fs", "cp", "sim-2:/b.bin", tmp_path / "back.bin"))
    listed = done(lab.belayctl("fs", "ls", "sim-1"))
    sums = done(lab.belayctl("fs", "sha256sum", "sim-1:/a.bin", "sim-2:/b.bin"))

    assert (tmp_path / "back.bin").read_bytes() == BIG
    assert listed.split() == [str(len(BIG)), "a.bin"]
    digest = sha256(BIG).hexdigest()
    assert sums.splitlines() == [f"{digest}  /a.bin", f"{digest}  /b.bin"]


def test_a_folder_with_any_names_goes_there_and_back(lab, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in NAMES:
        (source / name / "empty").mkdir(parents=True)
        (source / name / name).write_bytes(EVERY_BYTE)
    (source / "none").write_bytes(b"")
    deep = source / "/".join(["d"] * 200)
    deep.mkdir(parents=True)
    (deep / "a").write_bytes(b"1")

    done(lab.belayctl("fs", "cp", "-r", source, "sim-1:/there"))
    done(lab.belayctl("fs", "cp", "-r", "sim-1:/there", tmp_path / "back"))
    done(lab.belayctl("fs", "cp", "-r", "sim-1:/there", tmp_path))
    done(lab.belayctl("fs", "rm", "-r", "sim-1:/there"))

    assert tree(tmp_path / "back") == tree(source)
    assert tree(tmp_path / "there") == tree(source)
    assert lab.client.list_files("sim-1") == []


def test_copies_land_as_cp_has_it(lab, tmp_path: Path) -> None:
    (tmp_path / "src" / "inner").mkdir(parents=True)
    (tmp_path / "src" / "inner" / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    done(lab.belayctl("fs", "mkdir", "-p", "sim-1:/lib/deep"))

    done(lab.belayctl("fs", "cp", "-r", tmp_path / "src", "sim-1:/lib"))
    done(lab.belayctl("fs", "cp", "-r", f"{tmp_path}/src/.", "sim-1:/lib/deep"))
    done(lab.belayctl("fs", "cp", "-r", tmp_path / "src", tmp_path / "b", "sim-1:/lib/deep"))
    done(lab.belayctl("fs", "cp", tmp_path / "b", "sim-1:/c"))
    nowhere = lab.belayctl("fs", "cp", tmp_path / "b", "sim-1:/nowhere/c")
    folder = lab.belayctl("fs", "cp", tmp_path / "src", "sim-1:/")

    assert [file.path for file in lab.client.list_files("sim-1", recursive=True) if not file.folder] == [
        "/c",
        "/lib/deep/b",
        "/lib/deep/inner/a",
        "/lib/deep/src/inner/a",
        "/lib/src/inner/a",
    ]
    assert (nowhere.returncode, folder.returncode) == (3, 2)
    assert "no folder '/nowhere'" in nowhere.stderr
    assert "-r" in folder.stderr


def test_a_copied_folder_deletes_nothing_that_stands_in_its_way(lab, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_bytes(b"1")
    (tmp_path / "src" / "b").write_bytes(b"2")
    lab.client.write_file("sim-1", "/src/b/mine", b"mine", parents=True)

    refused = lab.belayctl("fs", "cp", "-r", tmp_path / "src", "sim-1:/")

    assert refused.returncode == 3
    assert "in the way" in refused.stderr
    assert [file.path for file in lab.client.list_files("sim-1", recursive=True)] == [
        "/src",
        "/src/b",
        "/src/b/mine",
    ]


def test_input_and_output_are_dashes(lab) -> None:
    def belayctl(*words: str, given: bytes = b"") -> bytes:
        return subprocess.run(
            [Path(sys.executable).with_name("belayctl"), "fs", *words],
            input=given,
            env={**os.environ, "BELAYD_ADDRESS": lab.address},
            stdout=subprocess.PIPE,
            timeout=60,
            check=True,
        ).stdout

    belayctl("cp", "-", "sim-1:/b.bin", given=EVERY_BYTE)

    assert belayctl("cp", "sim-1:/b.bin", "-") == EVERY_BYTE
    assert belayctl("cat", "sim-1:/b.bin", "sim-1:/b.bin") == 2 * EVERY_BYTE


def test_names_are_made_changed_and_deleted(lab) -> None:
    done(lab.belayctl("fs", "mkdir", "sim-1:/lib"))
    done(lab.belayctl("fs", "touch", "sim-1:/a", "sim-1:/lib/b"))
    done(lab.belayctl("fs", "mv", "sim-1:/a", "sim-1:/lib"))
    taken = lab.belayctl("fs", "mv", "sim-1:/lib/a", "sim-1:/lib/b")
    done(lab.belayctl("fs", "mv", "-f", "sim-1:/lib/a", "sim-1:/lib/b"))
    full = lab.belayctl("fs", "rm", "sim-1:/lib")
    missing = lab.belayctl("fs", "rm", "sim-1:/x")
    done(lab.belayctl("fs", "rm", "-f", "sim-1:/x"))
    shown = done(lab.belayctl("fs", "tree", "sim-1"))
    done(lab.belayctl("fs", "rm", "-r", "sim-1:/lib"))
    root = lab.belayctl("fs", "rm", "-r", "sim-1:/")

    assert (taken.returncode, full.returncode, missing.returncode, root.returncode) == (3, 3, 3, 3)
    assert shown == "/\n└── lib/\n    └── b\n"
    assert done(lab.belayctl("fs", "ls", "sim-1:")) == ""


def test_a_tree_is_drawn_with_its_branches(lab) -> None:
    for path in ("/a/x", "/a/y/z", "/b"):
        lab.client.touch_file("sim-1", path, parents=True)

    shown = done(lab.belayctl("fs", "tree", "sim-1:/"))

    assert shown.splitlines() == ["/", "├── a/", "│   ├── x", "│   └── y/", "│       └── z", "└── b"]


def test_json_tells_names_as_they_are(lab) -> None:
    lab.client.write_file("sim-1", "/\x1b[31m.py", b"12")

    text = done(lab.belayctl("fs", "ls", "sim-1"))
    told = json.loads(done(lab.belayctl("fs", "ls", "sim-1", "--json")))
    sums = json.loads(done(lab.belayctl("fs", "sha256sum", "sim-1:/", "--json")))
    full = json.loads(done(lab.belayctl("fs", "df", "sim-1", "--json")))

    assert "\\x1b[31m.py" in text and "\x1b" not in text
    assert [(file["path"], file["size"]) for file in told] == [("/\x1b[31m.py", 2)]
    assert sums == [{"path": "/\x1b[31m.py", "sha256": sha256(b"12").hexdigest()}]
    assert [filesystem["path"] for filesystem in full] == ["/"]
    assert full[0]["total_bytes"] >= full[0]["free_bytes"] > 0


def test_a_selector_reaches_every_board(lab, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"1")

    done(lab.belayctl("fs", "cp", "-l", "chip=sim", tmp_path / "a.py", ":/lib/a.py", "-p"))
    listed = done(lab.belayctl("fs", "ls", "-l", "chip=sim", ":/lib"))
    usage = done(lab.belayctl("fs", "df", "-l", "chip=sim"))
    back = lab.belayctl("fs", "cp", "-l", "chip=sim", ":/lib/a.py", tmp_path)

    assert sorted(line.split() for line in listed.splitlines()) == [
        ["sim-1", "|", "1", "a.py"],
        ["sim-2", "|", "1", "a.py"],
    ]
    assert usage.count("mounted on") == 2
    assert back.returncode == 2


@pytest.mark.parametrize(
    "words",
    [
        ("ls",),
        ("ls", "/lib"),
        ("ls", ":/lib"),
        ("ls", "-l", "chip", "sim-1:/lib"),
        ("mv", "sim-1:/a"),
        ("mv", "sim-1:/a", "sim-2:/b"),
        ("cp", "a"),
        ("cp", "a", "b"),
        ("cp", "-", "sim-1:/"),
        ("cat",),
        ("cat", "-l", "chip", ":/a"),
        ("chmod", "sim-1:/a"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_a_usage_error(lab, words: tuple[str, ...]) -> None:
    ended = lab.belayctl("fs", *words)

    assert (ended.returncode, ended.stdout) == (2, "")


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "..", "a\\0b"])
def test_a_board_whose_names_lead_outside_has_nothing_written_for_it(lab, tmp_path: Path, name: str) -> None:
    here = tmp_path / "inner" / "here"
    lab.client.run(
        "sim-1",
        "import os,sys\nclass Os:\n"
        " stat=staticmethod(lambda path:(0x4000,)+9*(0,))\n"
        f" ilistdir=staticmethod(lambda path:[('good',0x8000,0,1),('{name}',0x8000,0,1)])\n"
        "sys.modules['os']=Os",
    )

    ended = lab.belayctl("fs", "cp", "-r", "sim-1:/data", here)

    assert ended.returncode == 3
    assert "leads elsewhere" in ended.stderr
    assert list(tmp_path.rglob("*")) == []


def test_a_link_in_the_folder_here_is_not_followed(lab, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "lib").symlink_to(tmp_path / "outside")
    lab.client.write_file("sim-1", "/lib/a", b"1", parents=True)

    refused = lab.belayctl("fs", "cp", "-r", "sim-1:/", tmp_path / "here")

    assert refused.returncode == 3
    assert "is a link" in refused.stderr
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_client_says_what_was_written_and_what_failed(lab, tmp_path: Path) -> None:
    client = lab.client
    first = client.write_file("sim-1", "/a", BIG[:50_000])
    again = client.write_file("sim-1", "/a", BIG[:50_000])

    assert (first.changed, again.changed) == (True, False)
    assert first.wire_bytes < 1.1 * 50_000
    assert again.wire_bytes < 5_000
    assert client.read_file("sim-1", "/a") == BIG[:50_000]
    with pytest.raises(NotFound):
        client.read_file("sim-1", "/b")
    with pytest.raises(RequestInvalid, match="relative"):
        client.list_files("sim-1", "lib")
    with pytest.raises(RequestInvalid, match="not allowed"):
        client.read_file("sim-1", "/lib/../a")
    with pytest.raises(RequestInvalid, match="belayd's own"):
        client.write_file("sim-1", "/.belayd/0", b"")
    with pytest.raises(PreparationFailed, match="cannot read"):
        client.write_file("sim-1", "/a", tmp_path / "nothing")


def test_leaving_a_file_half_read_frees_the_board(lab) -> None:
    lab.client.write_file("sim-1", "/a", BIG)

    stream = lab.client.stream_file("sim-1", "/a")
    first = next(stream)
    stream.close()

    assert BIG.startswith(first)
    assert lab.client.evaluate("sim-1", "1 + 1", timeout=30) == 2


def test_what_is_changed_is_on_record_and_what_is_read_is_not(lab) -> None:
    lab.client.write_file("sim-1", "/a", b"1")
    lab.client.read_file("sim-1", "/a")
    lab.client.list_files("sim-1")
    lab.client.move_file("sim-1", "/a", "/b")
    lab.client.delete_file("sim-1", "/b", recursive=True)

    operator = lab.stack.enter_context(Client(f"unix:{lab.folder / 'state' / 'belayd.sock'}"))
    recorded = [
        (record.action, record.board, record.detail, record.outcome)
        for record in operator.audit("sim-1")
        if record.action.startswith("FileService/")
    ]

    assert recorded == [
        ("FileService/DeleteFile", "sim-1", "/b and all in it", "ok"),
        ("FileService/MoveFile", "sim-1", "/a to /b", "ok"),
        ("FileService/WriteFile", "sim-1", "/a", "ok"),
    ]


def test_a_lease_keeps_others_from_the_files(lab) -> None:
    with lab.client.acquire("sim-1") as lease:
        lab.client.write_file("sim-1", "/a", b"1", lease=lease)
        refused = lab.belayctl("fs", "cat", "sim-1:/a")
        mine = lab.belayctl("fs", "cat", "sim-1:/a", BELAYD_LEASE=lease.token)

    assert refused.returncode == 5
    assert mine.stdout == "1"


def test_a_micro_bit_keeps_files_too(daemon, microbit_port: Path, tmp_path: Path) -> None:
    lab = daemon({"bit-1": {"serial": {"port": str(microbit_port)}}})
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a b.py").write_bytes(EVERY_BYTE)
    (tmp_path / "src" / "none").write_bytes(b"")

    done(lab.belayctl("fs", "cp", "-r", f"{tmp_path}/src/.", "bit-1:"))
    done(lab.belayctl("fs", "cp", "-r", "bit-1:", tmp_path / "back"))
    sums = done(lab.belayctl("fs", "sha256sum", "bit-1:/a b.py"))
    done(lab.belayctl("fs", "rm", "bit-1:/none"))

    assert tree(tmp_path / "back") == tree(tmp_path / "src")
    assert sums == f"{sha256(EVERY_BYTE).hexdigest()}  /a b.py\n"
    assert done(lab.belayctl("fs", "ls", "bit-1")).split() == ["256", "a", "b.py"]
    assert lab.belayctl("fs", "mkdir", "bit-1:/lib").returncode == 3


def test_mpremote_agrees_on_the_hashes(daemon, simulated_pty, tmp_path: Path) -> None:
    board = simulated_pty("board")
    lab = daemon({"pty-1": {"serial": {"port": str(board.path)}}})
    contents = {"main.py": b"print(1)\n", "empty": b"", "big.bin": BIG[:100_000], "with space": EVERY_BYTE}
    contents |= {"it's.py": b"2", "grüße": b"3"}
    (tmp_path / "src").mkdir()
    for name, content in contents.items():
        (tmp_path / "src" / name).write_bytes(content)
    done(lab.belayctl("deploy", "pty-1", tmp_path / "src"))
    ours = json.loads(done(lab.belayctl("fs", "sha256sum", "pty-1:/", "--json")))
    lab.stop()

    theirs = {}
    for name in contents:
        ended = subprocess.run(
            [sys.executable, "-m", "mpremote", "connect", board.path, "fs", "sha256sum", f":{name}"],
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stderr
        theirs[f"/{name}"] = ended.stdout.split()[-1]

    assert {entry["path"]: entry["sha256"] for entry in ours} == theirs
