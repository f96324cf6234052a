from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
import trustme

from belayd.v1 import boards_pb2_grpc
from belayd_client.client import Client
from belayd_client.errors import ConnectionFailed


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secured(lab, authority: trustme.CA) -> Iterator[str]:
    """The lab behind TLS that demands a certificate of the client."""
    certificate = authority.issue_cert("localhost")
    server = grpc.server(futures.ThreadPoolExecutor(4))
    boards_pb2_grpc.add_BoardServiceServicer_to_server(lab, server)
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials(
            [(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())],
            root_certificates=authority.cert_pem.bytes(),
            require_client_auth=True,
        ),
    )
    server.start()
    yield f"localhost:{port}"
    server.stop(None).wait(10)


def test_a_client_with_a_certificate_is_served_over_tls(
    secured: str, authority: trustme.CA, tmp_path: Path
) -> None:
    mine = authority.issue_cert("ann@desk")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    (tmp_path / "key.pem").touch(0o600)
    mine.private_key_pem.write_to_path(tmp_path / "key.pem")

    with Client(
        secured, ca=tmp_path / "ca.pem", cert=tmp_path / "cert.pem", key=tmp_path / "key.pem", token="secret"
    ) as client:
        assert len(client.boards()) == 3


def test_a_daemon_of_another_authority_is_not_trusted(secured: str, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")

    with Client(secured, ca=tmp_path / "ca.pem") as client, pytest.raises(ConnectionFailed):
        client.boards()
