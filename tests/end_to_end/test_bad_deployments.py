"""Deployments that cannot be: refused before anything is touched; and odd names that can."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest

from belayd.v1 import deployments_pb2, deployments_pb2_grpc
from belayd_client import Exhausted, PreparationFailed, RequestInvalid
from belayd_client.status import from_rpc_error

TREE = """\
import os
def tree(path=''):
    found = {}
    for name, kind, *_ in os.ilistdir(path or '/'):
        inner = path + '/' + name
        if kind == 0x4000:
            found[inner] = None
            found.update(tree(inner))
        else:
            with open(inner, 'rb') as file:
                found[inner] = file.read()
    return found
"""
HASHES = """\
import hashlib, os
def hashes(folder):
    found = {}
    for name in os.listdir(folder):
        with open(folder + '/' + name, 'rb') as file:
            found[name] = hashlib.sha256(file.read()).digest()
    return found
"""
# LittleFS in 24 blocks of 4 KiB; each file and folder takes one or two.
BOARDS = {"sim-1": {"simulated": {}}, "flash-1": {"simulated": {"flash": 96}}}
# More than goes to a board in one exchange: what comes after is asked for when these are written.
LARGE = {f"{name}.bin": random.Random(name).randbytes(8_000) for name in "abc"}
Stub = deployments_pb2_grpc.DeploymentServiceStub


@pytest.fixture(scope="module")
def lab(shared_daemon):
    return shared_daemon(BOARDS)


@pytest.fixture
def stub(lab) -> Stub:
    return Stub(lab.channel())


@pytest.fixture(autouse=True)
def everybody_else(lab, bystander):
    """On both boards, somebody gets right answers all the while."""
    other = bystander(lab.connect(), tuple(BOARDS))
    yield
    other.leave()


@pytest.fixture(params=BOARDS)
def unchanged(lab, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A board with some files, which are all there is on it when the test ends."""
    board: str = request.param
    (tmp_path / "first" / "lib").mkdir(parents=True)
    (tmp_path / "first" / "main.py").write_bytes(b"print('old')\n")
    (tmp_path / "first" / "lib" / "a.py").write_bytes(b"A = 1\n")
    lab.client.deploy(board, tmp_path / "first", prune=True, prune_also=["lib"])
    before = files(lab, board)
    yield board
    assert before == {"/lib": None, "/lib/a.py": b"A = 1\n", "/main.py": b"print('old')\n"}
    assert files(lab, board) == before


def files(lab, board: str) -> dict[str, bytes | None]:
    """Return every path of a board with its content, None for a folder."""
    lab.client.run(board, TREE)
    found = lab.client.call(board, "tree", timeout=30)
    return {path: content for path, content in found.items() if not path.startswith("/dev")}


def put(stub: Stub, *contents: bytes, hashes: dict[bytes, bytes] | None = None) -> int:
    """Give the daemon contents, under false hashes if so wanted; return how many it stored."""
    blobs = [
        deployments_pb2.Blob(
            sha256=(hashes or {}).get(content) or hashlib.sha256(content).digest(), size=len(content)
        )
        for content in contents
    ]
    known = dict(zip([blob.sha256 for blob in blobs], contents, strict=True))
    messages: SimpleQueue[deployments_pb2.PutBlobsRequest | None] = SimpleQueue()
    messages.put(deployments_pb2.PutBlobsRequest(offer=deployments_pb2.BlobOffer(blobs=blobs)))
    answers = stub.PutBlobs(iter(messages.get, None), timeout=30)
    for sha256 in next(answers).wanted.sha256:
        messages.put(deployments_pb2.PutBlobsRequest(chunk=known[sha256]))
    messages.put(None)
    return next(answers).stored.count


def manifest(contents: dict[str, bytes]) -> list[deployments_pb2.ManifestFile]:
    return [
        deployments_pb2.ManifestFile(path=path, sha256=hashlib.sha256(content).digest(), size=len(content))
        for path, content in contents.items()
    ]


def deploy(stub: Stub, board: str, **request: object) -> list[deployments_pb2.DeployResponse]:
    message = deployments_pb2.DeployRequest(board=f"boards/{board}", **request)
    try:
        return list(stub.Deploy(message, timeout=60))
    except grpc.RpcError as error:
        raise from_rpc_error(error, "") from error


def test_a_tree_that_does_not_fit_changes_nothing(lab, tmp_path: Path) -> None:
    (tmp_path / "a_small_one.py").write_text("x = 1\n")
    (tmp_path / "large.bin").write_bytes(random.Random(7).randbytes(100_000))
    before = files(lab, "flash-1")

    with pytest.raises(Exhausted) as caught:
        lab.client.deploy("flash-1", tmp_path)
    done = lab.belayctl("deploy", "flash-1", tmp_path)

    assert caught.value.reason == "BOARD_FULL"
    assert int(caught.value.fields["need"]) > 100_000 > int(caught.value.fields["free"]) > 0
    assert done.returncode == 3
    assert "bytes free" in done.stderr
    assert files(lab, "flash-1") == before


@pytest.mark.parametrize(
    "path",
    [
        "../evil.py",
        "lib/../../evil.py",
        "lib/..",
        "..",
        ".",
        "/evil.py",
        "//evil.py",
        "lib//evil.py",
        "lib/",
        "",
        "evil\0.py",
        "lib/./evil.py",
        "..\\evil.py",
        "x" * 256,
        ".belayd-0123456789ab",
    ],
    ids=ascii,
)
def test_a_path_that_leads_astray_touches_nothing(stub: Stub, unchanged: str, path: str) -> None:
    put(stub, b"good", b"evil")

    with pytest.raises(RequestInvalid) as caught:
        deploy(stub, unchanged, files=manifest({"good.py": b"good", path: b"evil"}), prune=True)

    assert caught.value.fields["field"] == "files"


@pytest.mark.parametrize("destination", ["app", "/app/..", "/../etc", "/app/\0", "/a//b"], ids=ascii)
def test_a_destination_that_leads_astray_touches_nothing(
    stub: Stub, unchanged: str, destination: str
) -> None:
    put(stub, b"good")

    with pytest.raises(RequestInvalid) as caught:
        deploy(stub, unchanged, files=manifest({"good.py": b"good"}), destination=destination)

    assert caught.value.fields["field"] == "destination"


@pytest.mark.parametrize(
    "contents",
    [
        [("a.py", b"1"), ("a.py", b"2")],
        [("a", b"1"), ("a/b.py", b"2")],
    ],
    ids=["twice the same", "a file that is a folder"],
)
def test_a_manifest_that_contradicts_itself_touches_nothing(
    stub: Stub, unchanged: str, contents: list[tuple[str, bytes]]
) -> None:
    put(stub, b"1", b"2")
    files = [file for path, content in contents for file in manifest({path: content})]

    with pytest.raises(RequestInvalid):
        deploy(stub, unchanged, files=files)


def test_a_content_that_was_never_sent_touches_nothing(stub: Stub, unchanged: str) -> None:
    put(stub, *LARGE.values())

    with pytest.raises(RequestInvalid, match="send it again"):
        deploy(stub, unchanged, files=manifest({**LARGE, "never.py": b"never sent"}), prune=True)


def test_a_size_that_is_false_touches_nothing(stub: Stub, unchanged: str) -> None:
    put(stub, *LARGE.values(), b"four")
    files = manifest({**LARGE, "short.py": b"four"})
    files[-1].size = 3

    with pytest.raises(RequestInvalid, match="3 bytes"):
        deploy(stub, unchanged, files=files)


def test_a_hash_that_is_none_touches_nothing(stub: Stub, unchanged: str) -> None:
    file = deployments_pb2.ManifestFile(path="a.py", sha256=b"short", size=1)

    with pytest.raises(RequestInvalid):
        deploy(stub, unchanged, files=[file])


def test_a_content_under_a_false_hash_is_not_kept(stub: Stub, unchanged: str) -> None:
    claimed = hashlib.sha256(b"what was claimed").digest()

    with pytest.raises(grpc.RpcError) as caught:
        put(stub, b"what was sent!!!", hashes={b"what was sent!!!": claimed})

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert claimed.hex() in caught.value.details()
    with pytest.raises(RequestInvalid, match="was not sent"):
        deploy(stub, unchanged, files=manifest({"a.py": b"what was claimed"}))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"chunk": b"no offer"}],
        [{"offer": {"blobs": [{"sha256": b"short", "size": 4}]}}],
        [{"offer": {"blobs": [{"sha256": b"h" * 32, "size": 4}]}}, {"chunk": b"too long"}],
        [{"offer": {"blobs": [{"sha256": b"h" * 32, "size": 4}]}}, {"chunk": b""}],
        [{"offer": {"blobs": [{"sha256": b"h" * 32, "size": 4}]}}, {"chunk": b"ab"}],
        [{"offer": {"blobs": [{"sha256": b"h" * 32, "size": 2**40}]}}],
    ],
    ids=["nothing", "no offer", "no hash", "too much", "an empty chunk", "too little", "a terabyte"],
)
def test_an_upload_that_breaks_the_rules_is_refused(stub: Stub, messages: list[dict[str, object]]) -> None:
    requests = [deployments_pb2.PutBlobsRequest(**message) for message in messages]

    with pytest.raises(grpc.RpcError) as caught:
        list(stub.PutBlobs(iter(requests), timeout=30))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("board", BOARDS)
def test_odd_names_and_contents_go_as_they_are(lab, tmp_path: Path, board: str) -> None:
    names = ['it\'s "quoted".txt', "two  spaces", "naïve … 😀.py", "{0}%s.txt", "-rf", "a;b&c|d/😀 'x'.py"]
    contents = {f"/odd names/{name}": bytes(range(256)) + name.encode() for name in names}
    for path, content in contents.items():
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).write_bytes(content)

    first = lab.client.deploy(board, tmp_path / "odd names", dst="/odd names", as_is=["*"])
    again = lab.client.deploy(board, tmp_path / "odd names", dst="/odd names", as_is=["*"])
    found = files(lab, board)
    (tmp_path / "none").mkdir()
    pruned = lab.client.deploy(board, tmp_path / "none", dst="/odd names", prune=True)

    assert (first.files_written, again.files_written, again.files_same) == (6, 0, 6)
    assert {path: content for path, content in found.items() if content and "/odd" in path} == contents
    assert pruned.files_deleted == 7
    assert not [path for path in files(lab, board) if path.startswith("/odd names/")]


def test_a_link_out_of_the_tree_is_not_followed(lab, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "link").symlink_to(tmp_path / "secret")

    with pytest.raises(PreparationFailed):
        lab.client.deploy("sim-1", tmp_path / "src", dst="/links")

    assert not [path for path in files(lab, "sim-1") if "link" in path]


def test_a_cancelled_deployment_leaves_the_old_files_and_the_next_is_whole(lab, tmp_path: Path) -> None:
    contents = {f"{number:02d}.bin": random.Random(number).randbytes(9_000) for number in range(60)}
    hashes = {name: hashlib.sha256(content).digest() for name, content in contents.items()}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)

    def leave(progress: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "00.bin").write_bytes(b"old")
    lab.client.deploy("sim-1", tmp_path / "old", dst="/half")
    (tmp_path / "old" / "00.bin").unlink()
    with pytest.raises(KeyboardInterrupt):
        lab.client.deploy("sim-1", tmp_path, dst="/half", progress=leave)
    lab.client.run("sim-1", HASHES, timeout=30)
    half = lab.client.call("sim-1", "hashes", "/half", timeout=30)
    again = lab.client.deploy("sim-1", tmp_path, dst="/half")
    whole = lab.client.call("sim-1", "hashes", "/half", timeout=30)

    assert half == {"00.bin": hashlib.sha256(b"old").digest()}
    assert (again.files_same, again.files_written) == (0, 60)
    assert whole == hashes
