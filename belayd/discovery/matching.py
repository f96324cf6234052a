"""Which board is on which port: entries, rules and ports in, an answer with reasons out; pure.

A board gets a port only when there is no doubt. Two devices that match one entry
attach none, unless the entry has a unique_id: then they are tried, and what was
read from one of them (`known_ids`) decides. What stands keeps standing as long
as its device does, so that plugging in a second one breaks no running job.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from belayd.discovery.ports import Port
from belayd.inventory import (
    AdoptRule,
    BoardSpec,
    SerialLink,
    SimulatedLink,
    TcpLink,
    UsbLink,
    WebreplLink,
    clean_name,
)


@dataclass(frozen=True, slots=True)
class Adoption:
    """A board that a rule took in; its link names the very device."""

    spec: BoardSpec
    rule: AdoptRule


@dataclass(frozen=True, slots=True)
class Matching:
    """Where everything is.

    Attributes:
        attached: The port of each board that is present.
        reasons: Why each other board is not.
        adoptions: Boards that rules took in, present or not, by name.
        ignored: Ports, by address, that no board has, though a rule matches: why.
    """

    attached: Mapping[str, Port] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    adoptions: Mapping[str, Adoption] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)


NOTHING = Matching()


def match(
    specs: Sequence[BoardSpec],
    rules: Sequence[AdoptRule],
    ports: Sequence[Port],
    *,
    standing: Matching = NOTHING,
    known_ids: Mapping[Port, str] | None = None,
) -> Matching:
    """Return which board is on which of `ports`.

    `standing` is the last answer: its attachments and adoptions go on where they
    can. `known_ids` are the unique ids that boards have told on their ports,
    lower-case hexadecimal.
    """
    attempt = _Attempt(ports, standing, known_ids or {})
    attempt.attach_paths(specs)
    attempt.attach_usb(specs)
    attempt.adopt(specs, rules)
    return Matching(attempt.attached, attempt.reasons, attempt.adoptions, attempt.ignored)


class _Attempt:
    def __init__(self, ports: Sequence[Port], standing: Matching, known_ids: Mapping[Port, str]) -> None:
        self.attached: dict[str, Port] = {}
        self.reasons: dict[str, str] = {}
        self.adoptions: dict[str, Adoption] = {}
        self.ignored: dict[str, str] = {}
        self._by_path = {port.address: port for port in ports if port.vid is None}
        self._usb = sorted((port for port in ports if port.vid is not None), key=lambda port: port.order)
        self._consoles = consoles(self._usb)
        self._standing = standing
        self._known_ids = known_ids
        self._taken: dict[str, str] = {}  # real path -> board
        self._listed: set[_Device] = set()  # matched by an entry, whether it got them or not

    def attach_paths(self, specs: Sequence[BoardSpec]) -> None:
        """Attach all that has a fixed place: serial paths that exist, and what is always there."""
        for spec in specs:
            match spec.link:
                case SerialLink():
                    self._attach_path(spec.name, spec.link.port)
                case TcpLink() | WebreplLink():
                    self.attached[spec.name] = Port(spec.link.url)
                case SimulatedLink():
                    self.attached[spec.name] = Port("simulated")
                case UsbLink():
                    pass

    def _attach_path(self, name: str, path: str) -> None:
        port = self._by_path.get(path)
        if port is None:
            self.reasons[name] = f"{path} does not exist"
            return
        other = self._taken.get(port.real_path)
        if other is not None:
            self.reasons[name] = f"{path} is the same port as that of board {other}"
            return
        self._take(name, port)

    def _take(self, name: str, port: Port) -> None:
        self.attached[name] = port
        self._taken[port.real_path] = name

    def attach_usb(self, specs: Sequence[BoardSpec]) -> None:
        """Attach the entries with a USB identity: what stands, then what is certain, then what is tried."""
        wanted = [(spec, spec.link) for spec in specs if isinstance(spec.link, UsbLink)]
        candidates = {spec.name: self._matching(link) for spec, link in wanted}
        for found in candidates.values():
            self._listed.update(_device(port) for port in found)
        self._keep_standing([spec for spec, _ in wanted], candidates)
        for spec, _ in wanted:
            if spec.unique_id:
                self._attach_known(spec, candidates[spec.name])
        for spec, link in wanted:
            if spec.name not in self.attached:
                self._attach_certain(spec, link, candidates[spec.name])

    def _matching(self, link: UsbLink) -> list[Port]:
        # An entry that names an interface means it; any other the console, which is the first.
        among = self._usb if link.location and ":" in link.location else self._consoles
        return [port for port in among if matches(link, port)]

    def _keep_standing(self, specs: Sequence[BoardSpec], candidates: Mapping[str, list[Port]]) -> None:
        for spec in specs:
            port = self._standing.attached.get(spec.name)
            if (
                port in candidates[spec.name]
                and self._may_be(spec, port)
                and port.real_path not in self._taken
            ):
                self._take(spec.name, port)

    def _may_be(self, spec: BoardSpec, port: Port) -> bool:
        known = self._known_ids.get(port)
        return spec.unique_id is None or known is None or known == spec.unique_id

    def _attach_known(self, spec: BoardSpec, found: list[Port]) -> None:
        for port in found:
            if self._known_ids.get(port) != spec.unique_id:
                continue
            if self._taken.get(port.real_path, spec.name) != spec.name:
                continue
            # It may have been trying another one's port until now.
            previous = self.attached.pop(spec.name, None)
            if previous is not None:
                del self._taken[previous.real_path]
            self._take(spec.name, port)
            return

    def _attach_certain(self, spec: BoardSpec, link: UsbLink, found: list[Port]) -> None:
        free = [port for port in found if port.real_path not in self._taken]
        if not found:
            self.reasons[spec.name] = f"no USB device with {link.describe()} is present"
        elif not free:
            holders = ", ".join(sorted({self._taken[port.real_path] for port in found}))
            self.reasons[spec.name] = f"what matches {link.describe()} belongs to {holders}"
        elif spec.unique_id is not None:
            self._attach_tried(spec, free)
        elif len(free) > 1:
            devices = ", ".join(port.address for port in free)
            self.reasons[spec.name] = (
                f"{len(free)} devices match {link.describe()}: {devices}; name one in the inventory"
            )
        else:
            self._take(spec.name, free[0])

    def _attach_tried(self, spec: BoardSpec, free: list[Port]) -> None:
        untried = [port for port in free if port not in self._known_ids]
        if untried:
            self._take(spec.name, untried[0])
        elif len(free) == 1:
            # The only one there is another board: attached, so that the session can say so.
            self._take(spec.name, free[0])
        else:
            self.reasons[spec.name] = (
                f"none of the {len(free)} devices that match has the unique_id {spec.unique_id}"
            )

    def adopt(self, specs: Sequence[BoardSpec], rules: Sequence[AdoptRule]) -> None:
        """Attach the boards that rules took in before, then take in what no entry and no rule has yet."""
        names = {spec.name for spec in specs}
        for name, adoption in self._standing.adoptions.items():
            if name not in names and adoption.rule in rules:
                self._readopt(name, adoption, names)
        taken = {_device(port) for port in self._usb if port.real_path in self._taken}
        for port in self._consoles:
            if _device(port) in taken or _device(port) in self._listed:
                continue
            rule = next((rule for rule in rules if matches(rule.usb, port)), None)
            if rule is not None:
                self._adopt(port, rule, names)

    def _readopt(self, name: str, adoption: Adoption, listed: Collection[str]) -> None:
        link = adoption.spec.link
        assert isinstance(link, UsbLink)
        found = self._matching(link)
        if any(_device(port) in self._listed or self._taken.get(port.real_path) in listed for port in found):
            return  # the inventory lists it by now
        self.adoptions[name] = adoption
        port = self._standing.attached.get(name)
        if port is not None and port in found and port.real_path not in self._taken:
            self._take(name, port)
        else:
            self._attach_certain(adoption.spec, link, found)

    def _adopt(self, port: Port, rule: AdoptRule, names: set[str]) -> None:
        name = _name(rule.name, port)
        if name is None:
            self.ignored[port.address] = f"it lacks what the name {rule.name} is made of"
        elif name in names or name in self.adoptions:
            self.ignored[port.address] = f"another board is called {name} already"
        elif sum(adoption.rule == rule for adoption in self.adoptions.values()) >= rule.max:
            self.ignored[port.address] = f"the rule for {rule.name} has its {rule.max} boards already"
        else:
            spec = BoardSpec(
                name=name,
                link=_identity(port, rule.usb),
                labels=rule.labels,
                attach=rule.attach,
                between=rule.between,
            )
            self.adoptions[name] = Adoption(spec, rule)
            self._take(name, port)


_Device = tuple[int | None, int | None, str | None, str]


def _device(port: Port) -> _Device:
    """Return what the ports of one USB device have in common."""
    return port.vid, port.pid, port.serial_number, port.usb_path or port.address


def consoles(ports: Sequence[Port]) -> list[Port]:
    """Return the first port of each USB device: where there are several, the REPL is on that one."""
    first: dict[_Device, Port] = {}
    for port in ports:
        first.setdefault(_device(port), port)
    return list(first.values())


def matches(link: UsbLink, port: Port) -> bool:
    """Return whether a USB port is what an entry or a rule asks for."""
    return (
        link.vid in (None, port.vid)
        and link.pid in (None, port.pid)
        and link.serial_number in (None, port.serial_number)
        and link.manufacturer in (None, port.manufacturer)
        and link.product in (None, port.product)
        and link.location in (None, port.location, port.usb_path)
    )


def _name(template: str, port: Port) -> str | None:
    """Return the name that a rule gives to a port's board, None if an attribute it needs is missing."""
    fields = {
        "vid": f"{port.vid or 0:04x}",
        "pid": f"{port.pid or 0:04x}",
        "serial_number": clean_name(port.serial_number or ""),
        "manufacturer": clean_name(port.manufacturer or ""),
        "product": clean_name(port.product or ""),
        "location": clean_name(port.usb_path or ""),
    }
    if any(f"{{{key}}}" in template and not value for key, value in fields.items()):
        return None
    return clean_name(template.format_map(fields)) or None


def _identity(port: Port, rule: UsbLink) -> UsbLink:
    """Return the narrowest lasting identity: the serial number, else the place."""
    return UsbLink(
        vid=port.vid,
        pid=port.pid,
        serial_number=port.serial_number,
        location=None if port.serial_number else port.usb_path,
        baudrate=rule.baudrate,
        dtr=rule.dtr,
        rts=rule.rts,
        hupcl=rule.hupcl,
        low_latency=rule.low_latency,
    )
