"""From the file to the values: every mistake at once, or an inventory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from belayd.inventory import model, problems
from belayd.inventory.document import Document, Value, compose, to_document
from belayd.inventory.explaining import explain
from belayd.inventory.problems import Findings
from belayd.inventory.rules import check_boards, check_shape, warn
from belayd.inventory.source import read_text
from belayd.inventory.specs import (
    AdoptRule,
    Attach,
    Between,
    BoardSpec,
    ClusterSettings,
    DeployTree,
    Inventory,
    Link,
    PowerHook,
    SerialLink,
    ServerSettings,
    SimulatedLink,
    SoftReset,
    TcpLink,
    TlsFiles,
    UsbLink,
    WebreplLink,
    Wipe,
)
from belayd.inventory.trees import Trees, TreeUnusable

E = TypeVar("E", BoardSpec, AdoptRule)


def load(path: str | Path) -> Inventory:
    """Read and check an inventory and the folders it deploys; blocks for as long as the disk takes.

    Raises:
        InventoryError: With every mistake found: in reading, in YAML, in what it says, in its folders.
    """
    path = Path(path)
    return _parse(read_text(path), path, Trees())


def parse(text: str, path: Path) -> Inventory:
    """Check an inventory's text as if it stood at `path`, which need not exist; reads no folders.

    Raises:
        InventoryError: With every mistake found.
    """
    return _parse(text, path, None)


def _parse(text: str, path: Path, trees: Trees | None) -> Inventory:
    findings = Findings(str(path))
    root = compose(text, findings)
    if root is None:
        if not findings.problems:
            findings.add(1, (), "is empty", "start with `version: 1` and `boards:`")
        findings.raise_if_any()
        raise AssertionError("unreachable: something was noted")
    document = to_document(root, findings)
    if not isinstance(document.value, dict):
        findings.add(1, (), "is not a mapping", "start with `version: 1` and `boards:`")
        findings.raise_if_any()
    check_shape(document, findings)
    valid = _validate(document, findings)
    folder = path.absolute().parent
    boards = _boards(valid, folder)
    rules = [_rule(rule, valid.defaults, folder) for rule in valid.adopt]
    check_boards(boards, document, findings)
    if trees is not None:
        filling = _Filling(trees, document, findings)
        boards = {name: filling.fill(spec, ("boards", name)) for name, spec in boards.items()}
        rules = [filling.fill(rule, ("adopt", index)) for index, rule in enumerate(rules)]
    findings.raise_if_any()
    inventory = Inventory(
        path=path,
        server=_server(valid.server, folder),
        boards=boards,
        adopt=tuple(rules),
        cluster=_cluster(valid.cluster),
    )
    return replace(inventory, warnings=warn(inventory, document))


def _validate(document: Document, findings: Findings) -> model.InventoryModel:
    """Return what is valid of the document; the rest is noted."""
    try:
        return model.InventoryModel.model_validate(document.value)
    except ValidationError as error:
        explain(error, document, findings)
        return model.InventoryModel.model_validate(_without(document.value, error))


def _without(value: Value, error: ValidationError) -> dict[str, Value]:
    """Return the inventory without each board, rule and section that `error` names."""
    assert isinstance(value, dict)
    bad = {details["loc"][:2] for details in error.errors(include_url=False)}
    kept: dict[str, Value] = {}
    for key, section in value.items():
        if (key,) in bad:
            continue
        if key == "boards" and isinstance(section, dict):
            kept[key] = {name: board for name, board in section.items() if (key, name) not in bad}
        elif key == "adopt" and isinstance(section, list):
            kept[key] = [rule for index, rule in enumerate(section) if (key, index) not in bad]
        elif not any(path[0] == key for path in bad):
            kept[key] = section
    kept["version"] = "1"
    return kept


def _boards(valid: model.InventoryModel, folder: Path) -> dict[str, BoardSpec]:
    boards = {}
    for name, board in valid.boards.items():
        links = _links(board, folder)
        # Any other number is noted by check_shape already.
        if len(links) == 1:
            boards[name] = BoardSpec(
                name=name,
                link=links[0],
                labels={**valid.defaults.labels, **board.labels},
                unique_id=board.unique_id,
                attach=Attach(board.attach),
                between=_between(board.between or valid.defaults.between, folder),
                power=_power(board.power, folder),
            )
    return boards


def _links(board: model.BoardModel, folder: Path) -> list[Link]:
    links: list[Link] = []
    if board.usb is not None:
        links.append(_usb(board.usb))
    if board.serial is not None:
        serial = board.serial
        links.append(
            SerialLink(
                str(folder / serial.port),
                serial.baudrate,
                serial.dtr,
                serial.rts,
                serial.hupcl,
                serial.low_latency,
            )
        )
    if board.webrepl is not None:
        webrepl = board.webrepl
        links.append(WebreplLink(webrepl.url, webrepl.password_env, _join(folder, webrepl.password_file)))
    if board.tcp is not None:
        url = urlsplit(board.tcp.url)
        links.append(TcpLink(board.tcp.url, url.scheme, url.hostname or "", url.port or 0))
    if board.simulated is not None:
        simulated = board.simulated
        links.append(
            SimulatedLink(
                _join(folder, simulated.micropython),
                _join(folder, simulated.folder),
                simulated.heap,
                simulated.flash,
            )
        )
    return links


def _usb(usb: model.UsbModel) -> UsbLink:
    return UsbLink(
        vid=usb.vid,
        pid=usb.pid,
        serial_number=usb.serial_number,
        manufacturer=usb.manufacturer,
        product=usb.product,
        location=usb.location,
        baudrate=usb.baudrate,
        dtr=usb.dtr,
        rts=usb.rts,
        hupcl=usb.hupcl,
        low_latency=usb.low_latency,
    )


def _rule(rule: model.AdoptModel, defaults: model.DefaultsModel, folder: Path) -> AdoptRule:
    return AdoptRule(
        usb=_usb(rule.usb),
        name=rule.name,
        max=rule.max,
        labels={**defaults.labels, **rule.labels},
        attach=Attach(rule.attach),
        between=_between(rule.between or defaults.between, folder),
    )


def _between(value: str | Path | None, folder: Path) -> Between:
    if isinstance(value, Path):
        return DeployTree(folder / value)
    return Wipe() if value == "wipe" else SoftReset()


class _Filling:
    """Reads the folders that boards get, and notes what is wrong with them where they are named."""

    def __init__(self, trees: Trees, document: Document, findings: Findings) -> None:
        self._trees = trees
        self._document = document
        self._findings = findings
        self._noted: set[problems.Path] = set()

    def fill(self, owner: E, path: problems.Path) -> E:
        """Return a board or rule with the contents of the folder it deploys."""
        if not isinstance(owner.between, DeployTree):
            return owner
        place = (*path, "between")
        if place not in self._document.lines:
            place = ("defaults", "between")
        try:
            files = self._trees.read(owner.between.folder)
        except TreeUnusable as error:
            if place not in self._noted:
                self._noted.add(place)
                self._findings.add(self._document.line(place), place, str(error), error.advice)
            return owner
        return replace(owner, between=DeployTree(owner.between.folder, files))


def _power(power: model.PowerModel | None, folder: Path) -> PowerHook | None:
    if power is None:
        return None
    command, *arguments = power.cycle
    # As in a shell: a name alone is looked up in PATH, a path is a path.
    if "/" in command:
        command = str(folder / command)
    return PowerHook((command, *arguments), power.timeout)


def _server(server: model.ServerModel, folder: Path) -> ServerSettings:
    tls = server.tls
    return ServerSettings(
        listen=server.listen,
        metrics=server.metrics,
        tls=TlsFiles(folder / tls.cert, folder / tls.key, _join(folder, tls.client_ca)) if tls else None,
        max_hold=server.limits.max_hold,
        idle=server.limits.idle,
        per_user=server.limits.per_user,
        metric_labels=tuple(server.metric_labels),
    )


def _cluster(cluster: model.ClusterModel | None) -> ClusterSettings | None:
    if cluster is None:
        return None
    return ClusterSettings(tuple(cluster.peers), tuple(cluster.etcd.endpoints) if cluster.etcd else ())


def _join(folder: Path, path: Path | None) -> Path | None:
    return None if path is None else folder / path
