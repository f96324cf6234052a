"""Who may do what, asked of a real daemon over TLS with real certificates and tokens.

It listens on "lab.localhost": a name that never leaves this machine (RFC 6761), and
that belayd takes for one beyond loopback, as it does any name but localhost.
"""

from __future__ import annotations

import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import trustme
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from belayd.access import PERMISSIONS, Role
from belayd.tokens import Tokens, Wanted
from belayd.v1 import boards_pb2, boards_pb2_grpc, tasks_pb2, tasks_pb2_grpc
from belayd_client import Client, errors

PATIENCE = 30.0
BEYOND = "lab.localhost:0"
# No board answers there; simulated ones are not served beyond loopback.
BOARDS = {
    "far": {"serial": {"port": "/dev/nothing-there"}, "labels": {"chip": "rp2"}},
    "near": {"serial": {"port": "/dev/nothing-here"}, "labels": {"chip": "esp32"}},
}
TLS = {"tls": {"cert": "server.pem", "key": "server.key"}}
MUTUAL = {"tls": {**TLS["tls"], "client_ca": "ca.pem"}}
ROLES = {role.name.lower(): role for role in Role}
DENIED = ("UNAUTHENTICATED", "PERMISSION_DENIED")


class Lab:
    """A folder with an authority's files, tokens, and what they are used for."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.folder: Path
        self.tokens: dict[str, str] = {}

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def prepare(self, folder: Path) -> None:
        self.folder = folder
        self.authority.cert_pem.write_to_path(self.ca)
        self.certify("server", "lab.localhost", "localhost")
        (folder / "state").mkdir(0o700)
        wanted = [Wanted(name, role) for name, role in ROLES.items()]
        for name, text in zip(ROLES, self.store.create(wanted, datetime.now(UTC)), strict=True):
            self.tokens[name] = text

    @property
    def store(self) -> Tokens:
        return Tokens(self.folder / "state" / "access.sqlite")

    def certify(
        self, file: str, *names: str, by: trustme.CA | None = None, days: float = 30
    ) -> tuple[Path, Path]:
        """Write FILE.pem and FILE.key, with rights as they should be."""
        now = datetime.now(UTC).replace(tzinfo=None)
        until = now + timedelta(days=days)
        made = (by or self.authority).issue_cert(
            *names, not_before=min(now, until) - timedelta(days=1), not_after=until
        )
        cert, key = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        for path, pem in ((key, made.private_key_pem), (cert, made.cert_chain_pems[0])):
            fresh = path.with_suffix(".new")
            fresh.touch(0o600)
            pem.write_to_path(fresh)
            fresh.replace(path)
        return cert, key

    def token_file(self, name: str, text: str) -> Path:
        path = self.folder / f"{name}.token"
        path.touch(0o600)
        path.write_text(text)
        return path


def belayd(*words: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    state = ["--state", folder / "state"] if folder else []
    command = [sys.executable, "-m", "belayd", *words, *state]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab()


@pytest.fixture(scope="module")
def secured(shared_daemon, lab: Lab):
    """A daemon beyond loopback with TLS, for holders of tokens."""
    return shared_daemon(BOARDS, False, server=TLS, listen=BEYOND, prepare=lab.prepare)


@pytest.fixture(scope="module")
def mutual_lab() -> Lab:
    return Lab()


@pytest.fixture(scope="module")
def mutual(shared_daemon, mutual_lab: Lab):
    """A daemon beyond loopback that wants certificates of its callers."""
    return shared_daemon(BOARDS, False, server=MUTUAL, listen=BEYOND, prepare=mutual_lab.prepare)


@pytest.fixture
def channel(secured, lab: Lab) -> Iterator[grpc.Channel]:
    credentials = grpc.ssl_channel_credentials(lab.ca.read_bytes())
    with grpc.secure_channel(secured.address, credentials) as channel:
        yield channel


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {text}"),)


def verdict(channel: grpc.Channel, method: str, metadata=()) -> str:
    """Send one empty message; return "" for any answer that is not about rights, else why not."""
    call = channel.stream_stream(f"/{method}")(iter([b""]), timeout=PATIENCE, metadata=metadata)
    try:
        next(call, None)
    except grpc.RpcError as error:
        return error.code().name if error.code().name in DENIED else ""
    finally:
        call.cancel()
    return ""


def problem(error: grpc.RpcError) -> str:
    [value] = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(value).details[0].Unpack(info)
    return info.metadata["problem"]


def served(channel: grpc.Channel) -> list[str]:
    """Return every method of every service that the daemon reflects."""
    reflected = ProtoReflectionDescriptorDatabase(channel)
    methods = []
    for service in reflected.get_services():
        file = reflected.FindFileContainingSymbol(service)
        [found] = [each for each in file.service if f"{file.package}.{each.name}" == service]
        methods += [f"{service}/{method.name}" for method in found.method]
    return methods


def test_every_rpc_that_is_served_is_closed_to_whoever_has_too_little_and_open_with_enough(daemon) -> None:
    lab = Lab()
    asked_of = daemon(BOARDS, False, server=TLS, listen=BEYOND, prepare=lab.prepare)
    with grpc.insecure_channel(f"unix:{asked_of.folder}/state/belayd.sock") as socket:
        methods = served(socket)
    assert len(methods) >= 20
    expected = {}
    for method in methods:
        expected[method, ""] = "UNAUTHENTICATED"
        for shown, role in ROLES.items():
            expected[method, shown] = "" if role >= PERMISSIONS[method] else "PERMISSION_DENIED"
    last = ("belayd.v1.DaemonService/Drain", "admin")  # it ends the daemon
    asked = [each for each in expected if each != last]

    credentials = grpc.ssl_channel_credentials(lab.ca.read_bytes())
    with (
        grpc.secure_channel(asked_of.address, credentials) as channel,
        ThreadPoolExecutor(32) as pool,  # who fails often from one address is answered late
    ):

        def ask(each: tuple[str, str]) -> str:
            method, shown = each
            return verdict(channel, method, bearer(lab.tokens[shown]) if shown else ())

        found = dict(zip(asked, pool.map(ask, asked), strict=True))
        found |= {each: ask(each) for each in expected if each == last}

    assert found == expected


def test_the_client_comes_in_with_a_token_over_tls(secured, lab: Lab) -> None:
    with Client(secured.address, ca=lab.ca, token=lab.tokens["operator"]) as client:
        told = client.daemon()

        assert (told.principal, told.role) == ("operator", "operator")
        assert [board.name for board in client.boards()] == ["far", "near"]


def test_whoever_shows_nothing_is_told_how_to_get_in(secured, lab: Lab) -> None:
    with Client(secured.address, ca=lab.ca) as client, pytest.raises(errors.Refused) as caught:
        client.boards()

    assert caught.value.fields == {"problem": "missing"}
    for word in ("belayd token create", "--token-file", "BELAYD_TOKEN", "belayctl login"):
        assert word in str(caught.value)


def test_wrong_expired_and_revoked_tokens_are_refused_each_with_its_reason_and_counted(
    secured, lab: Lab, channel: grpc.Channel
) -> None:
    now = datetime.now(UTC)
    expired, revoked = lab.store.create(
        [Wanted("late", Role.ADMIN, expires=now - timedelta(days=1)), Wanted("gone", Role.ADMIN)], now
    )
    stub = boards_pb2_grpc.BoardServiceStub(channel)
    assert stub.ListBoards(boards_pb2.ListBoardsRequest(), metadata=bearer(revoked), timeout=PATIENCE).boards
    done = belayd("token", "revoke", "gone", folder=secured.folder)
    assert (done.returncode, done.stderr) == (0, "")
    shown = {"unknown": "bt_nobodys", "expired": expired, "revoked": revoked}

    for reason, text in shown.items():
        before = secured.metric("belayd_auth_failures_total", reason=reason)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListBoards(boards_pb2.ListBoardsRequest(), metadata=bearer(text), timeout=PATIENCE)
        assert (caught.value.code(), problem(caught.value)) == (grpc.StatusCode.UNAUTHENTICATED, reason)
        assert text not in caught.value.details()
        assert secured.metric("belayd_auth_failures_total", reason=reason) == before + 1


def test_a_tokens_selector_bounds_what_it_sees(secured, lab: Lab) -> None:
    made = belayd(
        "token", "create", "bench", "--role", "user", "--selector", "chip=rp2", folder=secured.folder
    )
    with Client(secured.address, ca=lab.ca, token=made.stdout.strip()) as client:
        seen = [board.name for board in client.boards()]
        with pytest.raises(errors.Refused, match="'near' is not among those of 'bench'"):
            client.board("near")

    assert seen == ["far"]


def test_the_client_sends_no_token_in_the_clear(secured, lab: Lab) -> None:
    with pytest.raises(errors.RequestInvalid, match="in the clear"):
        Client(secured.address, token=lab.tokens["user"])


def test_a_client_without_tls_is_told_that_the_daemon_may_want_it(secured) -> None:
    with Client(secured.address) as client, pytest.raises(errors.ConnectionFailed, match="--ca"):
        client.boards()


def test_a_daemon_of_another_authority_is_told_apart(secured, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")

    with (
        Client(secured.address, ca=tmp_path / "ca.pem") as client,
        pytest.raises(errors.ConnectionFailed, match="not of the authority"),
    ):
        client.boards()


def test_a_token_that_came_in_the_clear_is_refused_by_the_daemon_and_nobody_needs_one_there(daemon) -> None:
    lab = Lab()
    insecure = daemon(BOARDS, False, listen=BEYOND, prepare=lab.prepare, options=("--insecure",))
    stub = boards_pb2_grpc.BoardServiceStub(insecure.channel())

    with pytest.raises(grpc.RpcError) as caught:
        stub.ListBoards(
            boards_pb2.ListBoardsRequest(), metadata=bearer(lab.tokens["admin"]), timeout=PATIENCE
        )

    assert (caught.value.code().name, problem(caught.value)) == ("UNAUTHENTICATED", "in_the_clear")
    assert "revoked" in caught.value.details()
    assert insecure.metric("belayd_auth_failures_total", reason="in_the_clear") == 1
    assert (insecure.client.daemon().principal, insecure.client.daemon().role) == ("local", "user")


def test_an_oversized_message_is_refused_and_the_daemon_serves_on(
    secured, lab: Lab, channel: grpc.Channel
) -> None:
    stub = tasks_pb2_grpc.TaskServiceStub(channel)
    request = tasks_pb2.RunTaskRequest(board="boards/far", source="#" * (17 << 20))

    with pytest.raises(grpc.RpcError) as caught:
        list(stub.RunTask(request, metadata=bearer(lab.tokens["user"]), timeout=PATIENCE))

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.details()
    assert verdict(channel, "belayd.v1.BoardService/ListBoards", bearer(lab.tokens["user"])) == ""


def test_ten_thousand_bad_attempts_are_refused_cheaply_and_lock_out_nobody(
    secured, lab: Lab, channel: grpc.Channel
) -> None:
    stub = boards_pb2_grpc.BoardServiceStub(channel)
    good = grpc.secure_channel(secured.address, grpc.ssl_channel_credentials(lab.ca.read_bytes()))
    before, memory = secured.metric("belayd_auth_failures_total", reason="unknown"), secured.rss()
    attempts = 0
    ends: Counter[str] = Counter()
    with good:
        mine = boards_pb2_grpc.BoardServiceStub(good)
        while attempts < 10_000:
            calls = [
                stub.ListBoards.future(
                    boards_pb2.ListBoardsRequest(), metadata=bearer(f"bt_{attempts + n}"), timeout=PATIENCE
                )
                for n in range(800)  # gRPC turns some away by itself where 1,000 are pending
            ]
            listed = mine.ListBoards(
                boards_pb2.ListBoardsRequest(), metadata=bearer(lab.tokens["viewer"]), timeout=PATIENCE
            )
            assert len(listed.boards) == 2
            ends.update(call.code().name for call in calls)
            attempts += len(calls)

    assert ends == {"UNAUTHENTICATED": attempts}
    assert secured.metric("belayd_auth_failures_total", reason="unknown") == before + attempts
    assert secured.rss() - memory < 64 << 20


def test_the_unix_socket_is_its_owners_alone_and_makes_him_administrator(secured) -> None:
    socket = secured.folder / "state" / "belayd.sock"

    with Client(f"unix:{socket}") as client:
        told = client.daemon()

    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_ISSOCK(socket.stat().st_mode)
    assert told.principal.startswith("unix:")
    assert told.role == "admin"


def test_the_socket_goes_with_the_daemon_and_a_stale_one_is_replaced(daemon) -> None:
    first = daemon(BOARDS, False)
    socket = first.folder / "state" / "belayd.sock"
    first.kill()
    assert socket.exists()

    second = first.again()
    with Client(f"unix:{socket}") as client:
        assert client.daemon().role == "admin"
    assert second.stop() == 0

    assert not socket.exists()


def test_a_certificate_that_is_renewed_is_served_without_a_restart(daemon, until) -> None:
    lab = Lab()
    fresh = daemon(BOARDS, False, server=TLS, listen=BEYOND, prepare=lab.prepare)
    expiry = fresh.metric("belayd_tls_certificate_expiry_timestamp_seconds")
    assert abs(expiry - (time.time() + 30 * 86400)) < 3600
    with Client(fresh.address, ca=lab.ca, token=lab.tokens["user"]) as before:
        before.boards()
        lab.authority = trustme.CA()
        lab.certify("server", "lab.localhost", days=90)
        lab.authority.cert_pem.write_to_path(lab.folder / "new-ca.pem")
        until(lambda: fresh.metric("belayd_tls_certificate_expiry_timestamp_seconds") > expiry + 59 * 86400)

        with Client(fresh.address, ca=lab.folder / "new-ca.pem", token=lab.tokens["user"]) as after:
            assert len(after.boards()) == 2
        assert len(before.boards()) == 2, "a connection that was made goes on"
    with (
        Client(fresh.address, ca=lab.ca, token=lab.tokens["user"]) as late,
        pytest.raises(errors.ConnectionFailed, match="not of the authority"),
    ):
        late.boards()


def test_a_certificate_makes_its_name_the_principal(mutual, mutual_lab: Lab) -> None:
    cert, key = mutual_lab.certify("ann", "ann@desk")

    with Client(mutual.address, ca=mutual_lab.ca, cert=cert, key=key) as client:
        told = client.daemon()
        assert (told.principal, told.role) == ("ann@desk", "user")


def test_the_table_says_what_a_certificates_holder_may_do_and_keeps_it_out(mutual, mutual_lab: Lab) -> None:
    cert, key = mutual_lab.certify("bob", "bob@desk")
    with Client(mutual.address, ca=mutual_lab.ca, cert=cert, key=key) as client:
        belayd("token", "create", "bob@desk", "--role", "operator", "--certificate", folder=mutual.folder)
        role = client.daemon().role
        belayd("token", "revoke", "bob@desk", folder=mutual.folder)
        with pytest.raises(errors.Refused, match="revoked"):
            client.daemon()

    assert role == "operator"


@pytest.mark.parametrize("kind", ["none", "expired", "another authority's"])
def test_who_has_no_valid_certificate_does_not_come_in(mutual, mutual_lab: Lab, kind: str) -> None:
    shown = {
        "none": lambda: (None, None),
        "expired": lambda: mutual_lab.certify("late", "ann@desk", days=-1),
        "another authority's": lambda: mutual_lab.certify("eve", "ann@desk", by=trustme.CA()),
    }
    cert, key = shown[kind]()

    with (
        Client(
            mutual.address, ca=mutual_lab.ca, cert=cert, key=key, token=mutual_lab.tokens["admin"]
        ) as client,
        pytest.raises(errors.ConnectionFailed, match=r"certificates, yours .* is missing, has expired"),
    ):
        client.boards()


def test_login_keeps_a_profile_that_later_commands_use(secured, lab: Lab, tmp_path: Path) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path), "BELAYD_ADDRESS": ""}
    token = lab.token_file("mine", lab.tokens["user"])

    login = secured.belayctl("login", secured.address, "--ca", lab.ca, "--token-file", token, **home)
    boards = secured.belayctl("boards", **home)
    elsewhere = secured.belayctl("boards", "--address", "localhost:1", **home)

    profile = tmp_path / "belayd" / "default.json"
    assert login.returncode == 0, login.stderr
    assert "you are user, user; 2 boards" in login.stderr
    assert stat.S_IMODE(profile.stat().st_mode) == 0o600
    assert boards.returncode == 0, boards.stderr
    assert "far" in boards.stdout
    assert elsewhere.returncode == 4


def test_a_login_that_is_refused_keeps_nothing_and_says_why(secured, lab: Lab, tmp_path: Path) -> None:
    token = lab.token_file("wrong", "bt_wrong")

    done = secured.belayctl(
        *("login", secured.address, "--ca", lab.ca, "--token-file", token), XDG_CONFIG_HOME=str(tmp_path)
    )

    assert done.returncode == 3
    assert "knows no such token" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_named_profile_is_chosen_by_option_or_environment(secured, lab: Lab, tmp_path: Path) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path), "BELAYD_ADDRESS": ""}
    words = ("login", secured.address, "--ca", lab.ca, "--name", "north")

    login = secured.belayctl(*words, BELAYD_TOKEN=lab.tokens["viewer"], **home)
    by_option = secured.belayctl("boards", "--profile", "north", **home)
    by_environment = secured.belayctl("boards", BELAYD_PROFILE="north", **home)
    missing = secured.belayctl("boards", "--profile", "south", **home)
    elsewhere = secured.belayctl("boards", "--profile", "north", "--address", "localhost:1", **home)

    assert [done.returncode for done in (login, by_option, by_environment)] == [0, 0, 0]
    assert (missing.returncode, elsewhere.returncode) == (3, 3)
    assert "belayctl login" in missing.stderr
    assert "is for lab.localhost" in elsewhere.stderr


@pytest.mark.parametrize(
    ("server", "tokens", "options", "says"),
    [
        ({}, True, (), "server.tls"),
        (TLS, False, (), "belayd token create NAME"),
        ({"tls": {"cert": "missing.pem", "key": "server.key"}}, True, (), "missing.pem"),
    ],
    ids=["no TLS", "no credentials", "no certificate"],
)
def test_a_daemon_does_not_start_beyond_loopback_without_tls_and_credentials(
    tmp_path: Path, server: dict, tokens: bool, options: tuple[str, ...], says: str
) -> None:
    lab = Lab()
    lab.prepare(tmp_path)
    if not tokens:
        (tmp_path / "state" / "access.sqlite").unlink()
    # JSON is YAML.
    text = f'{{"version": 1, "server": {server}, "boards": {BOARDS}}}'.replace("'", '"')
    (tmp_path / "lab.yaml").write_text(text)

    words = ("serve", "--inventory", tmp_path / "lab.yaml", "--listen", BEYOND, "--metrics", "localhost:0")
    done = belayd(*words, *options, folder=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_a_stolen_lease_token_is_refused_to_another_principal(daemon, sim) -> None:
    lab = Lab()
    shared = daemon({"sim-1": sim}, prepare=lab.prepare)
    with (
        Client(shared.address, token=lab.tokens["user"]) as ann,
        Client(shared.address, token=lab.tokens["admin"]) as eve,
    ):
        lease = ann.acquire("sim-1", ttl=60)
        for thief in (eve, shared.client):
            with pytest.raises(errors.BelaydError) as caught:
                thief.run("sim-1", "print(1)", lease=lease.token)
            assert lease.token not in str(caught.value)
        assert ann.evaluate("sim-1", "6 * 7", lease=lease) == 42
        assert lease.token not in shared.log + shared.scrape()


def test_no_secret_is_in_the_log_or_the_metrics_after_all_that(secured, lab: Lab) -> None:
    with ThreadPoolExecutor(4) as pool:
        for text in lab.tokens.values():
            pool.submit(verdict_of, secured.address, lab.ca, text).result(PATIENCE)
    kept = secured.log + secured.scrape()
    secrets = [*lab.tokens.values(), "bt_", "bl_", "PRIVATE KEY", "Bearer "]

    assert [secret for secret in secrets if secret in kept] == []
    assert [secret for secret in lab.tokens.values() if secret.encode() in state_bytes(secured.folder)] == []


def verdict_of(address: str, ca: Path, text: str) -> str:
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(ca.read_bytes())) as channel:
        return verdict(channel, "grpc.health.v1.Health/Check", bearer(text))


def state_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (folder / "state").rglob("*") if path.is_file())


def test_health_is_served_to_a_viewer(secured, lab: Lab, channel: grpc.Channel) -> None:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )

    answer = check(health_pb2.HealthCheckRequest(), metadata=bearer(lab.tokens["viewer"]), timeout=PATIENCE)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING
