"""A web on loopback that serves what a test puts there, an index of packages among it."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from belayd_client.packages.cache import Cache
from belayd_client.packages.resolution import Resolution, resolve

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@dataclass
class Web:
    """What is served, by path; `asked` are the paths that were asked for, in order."""

    contents: dict[str, bytes | Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def index(self) -> str:
        """The index's URL."""
        return f"{self.url}/pi/v2"

    def publish(
        self,
        name: str,
        files: dict[str, bytes],
        *,
        release: str = "1.0",
        variant: str = "py",
        deps: list[list[str]] | None = None,
        prefix: int = 8,
    ) -> None:
        """Put a package in the index as its latest, as micropython-lib's build puts it there."""
        hashes = []
        for path, content in files.items():
            short = hashlib.sha256(content).hexdigest()[:prefix]
            self.contents[f"/pi/v2/file/{short[:2]}/{short}"] = content
            hashes.append([path, short])
        text = json.dumps({"v": 1, "version": release, "hashes": hashes, "deps": deps or []}).encode()
        for version in ("latest", release):
            self.contents[f"/pi/v2/package/{variant}/{name}/{version}.json"] = text

    def put_json(self, path: str, content: Any) -> None:
        """Serve an object as JSON."""
        self.contents[path] = json.dumps(content).encode()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()

    class Requests(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append(self.path)
            content = web.contents.get(self.path)
            if content is None:
                self.send_error(404)
            elif isinstance(content, bytes):
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            else:
                content(self)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield web
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def hosts(web: Web) -> dict[str, str]:
    """Stand-ins for the hosts, with their own ways to serve a file."""
    return {
        "github:": web.url + "/raw/{org}/{repo}/{ref}/{path}",
        "gitlab:": web.url + "/lab/{org}/{repo}/-/raw/{ref}/{path}",
        "codeberg:": web.url + "/berg/{org}/{repo}/raw/{path}?ref={ref}",
    }


@pytest.fixture
def install(web: Web, cache: Cache, hosts: dict[str, str]) -> Callable[..., Resolution]:
    """`resolve` with the index, the hosts and the cache of the test."""
    return lambda *packages, **more: resolve(
        packages, **{"index": web.index, "cache": cache, "hosts": hosts, **more}
    )


@pytest.fixture
def contents() -> Callable[[Resolution], dict[str, bytes]]:
    """Read what a resolution would put on a board."""
    return lambda resolution: {file.path: b"".join(file.chunks()) for file in resolution.files}
