"""Looks again and again which ports are there, and reports what changed for which board.

Polling costs 1 ms in a thread each second; a netlink monitor would see a device
sooner, and still need this for all that is not USB. One caller awaits `run`, and
owns it; nothing here makes a task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from belayd.discovery.matching import NOTHING, Adoption, Matching, match
from belayd.discovery.ports import Lister, ListingFailed, Port, list_ports
from belayd.inventory import AdoptRule, BoardSpec, SerialLink

log = logging.getLogger(__name__)

INTERVAL = 1.0  # seconds; people who plug something in wait about that long for a sign
REMEMBER_ADOPTED = 3600.0  # seconds that an absent adopted board keeps its name and its place in `max`


@dataclass(frozen=True, slots=True)
class Attached:
    """A board is present, on this port; after another Attached, it has moved or was replaced."""

    board: str
    port: Port


@dataclass(frozen=True, slots=True)
class Detached:
    """A board is not present; sent again when the reason changes."""

    board: str
    reason: str


@dataclass(frozen=True, slots=True)
class Adopted:
    """A rule took in a board that no entry lists; Attached follows."""

    spec: BoardSpec


@dataclass(frozen=True, slots=True)
class Forgotten:
    """An adopted board is no more: absent too long, its rule gone, or listed by now."""

    board: str


@dataclass(frozen=True, slots=True)
class Readopted:
    """An adopted board's rule says something else of it now, that needs no new link."""

    spec: BoardSpec


DiscoveryEvent = Attached | Detached | Adopted | Forgotten | Readopted
DiscoveryListener = Callable[[DiscoveryEvent], None]


class Discovery:
    """Keeps the ports and the boards together.

    The listener is called on the loop and must be quick. Boards that `update`
    takes out of the inventory get no event: whoever took them out knows.
    """

    def __init__(
        self,
        specs: Iterable[BoardSpec],
        rules: Iterable[AdoptRule],
        listener: DiscoveryListener,
        *,
        lister: Lister = list_ports,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._specs = tuple(specs)
        self._rules = tuple(rules)
        self._listener = listener
        self._lister = lister
        self._interval = interval
        self._clock = clock
        self._matching = NOTHING
        self._known_ids: dict[Port, str] = {}
        self._last_seen: dict[str, float] = {}  # adopted boards only
        self._failing = False
        self._soon = asyncio.Event()

    @property
    def matching(self) -> Matching:
        """Where everything was when last looked."""
        return self._matching

    async def run(self) -> None:
        """Look at once and then at each interval, for ever; cancel it to stop."""
        while True:
            self._soon.clear()
            await self.poll()
            try:
                async with asyncio.timeout(self._interval):
                    await self._soon.wait()
            except TimeoutError:
                pass

    async def poll(self) -> None:
        """Look once, and tell the listener what changed. Not while `run` runs."""
        paths = [spec.link.port for spec in self._specs if isinstance(spec.link, SerialLink)]
        try:
            ports = await asyncio.to_thread(self._lister, paths)
        except ListingFailed as error:
            # What was there is taken to be there still: a board that is gone says so itself.
            if not self._failing:
                log.warning("%s; trying again each %g s", error, self._interval)
            self._failing = True
            return
        self._failing = False
        self._compare(ports)

    def look_soon(self) -> None:
        """Look again without waiting for the interval: a port has failed, say."""
        self._soon.set()

    def update(self, specs: Iterable[BoardSpec], rules: Iterable[AdoptRule]) -> None:
        """Replace the inventory; what that changes is told after the next look, which comes soon.

        A board whose `identity_of` differs from before is told of anew, even if it
        stays where it is. Adopted boards stay while there is a rule for the same USB
        attributes, name and way to attach; Readopted tells at once what else it says now.
        """
        specs, rules = tuple(specs), tuple(rules)
        same = {identity_of(spec) for spec in self._specs}
        changed = {spec.name for spec in specs if identity_of(spec) not in same}
        gone = {spec.name for spec in self._specs} - {spec.name for spec in specs}
        self._matching = _without(self._matching, changed | gone)
        self._specs = specs
        self._rules = rules
        self._readopt(rules)
        self._soon.set()

    def _readopt(self, rules: Iterable[AdoptRule]) -> None:
        adoptions = dict(self._matching.adoptions)
        for name, adoption in adoptions.items():
            rule = next((rule for rule in rules if rule_identity(rule) == rule_identity(adoption.rule)), None)
            if rule is not None and rule != adoption.rule:
                spec = replace(adoption.spec, labels=rule.labels, between=rule.between)
                adoptions[name] = Adoption(spec, rule)
                if spec != adoption.spec:
                    self._listener(Readopted(spec))
        self._matching = replace(self._matching, adoptions=adoptions)

    def identified(self, port: Port, unique_id: str) -> None:
        """Take note that the board on `port` has this unique id, whether the expected one or not.

        Where entries share a USB match, this finds each its board; the ports are
        looked at again soon. Forgotten when the port goes.
        """
        unique_id = unique_id.lower()
        if self._known_ids.get(port) != unique_id:
            self._known_ids[port] = unique_id
            self._soon.set()

    def _compare(self, ports: Iterable[Port]) -> None:
        present = list(ports)
        self._known_ids = {port: self._known_ids[port] for port in present if port in self._known_ids}
        before = self._matching
        after = match(
            self._specs,
            self._rules,
            present,
            standing=self._without_long_absent(before),
            known_ids=self._known_ids,
        )
        self._matching = after
        now = self._clock()
        for name in after.adoptions:
            if name in after.attached:
                self._last_seen[name] = now
        self._last_seen = {name: seen for name, seen in self._last_seen.items() if name in after.adoptions}
        self._tell(before, after)

    def _without_long_absent(self, matching: Matching) -> Matching:
        limit = self._clock() - REMEMBER_ADOPTED
        kept = {
            name: adoption
            for name, adoption in matching.adoptions.items()
            if name in matching.attached or self._last_seen[name] > limit
        }
        return replace(matching, adoptions=kept)

    def _tell(self, before: Matching, after: Matching) -> None:
        forgotten = {name for name, old in before.adoptions.items() if after.adoptions.get(name) != old}
        for name in forgotten:
            log.info("%s: forgotten", name)
            self._listener(Forgotten(name))
        before = _without(before, forgotten)
        for name, reason in after.reasons.items():
            if before.reasons.get(name) != reason:
                log.info("%s: not present: %s", name, reason)
                self._listener(Detached(name, reason))
        for name, adoption in after.adoptions.items():
            if name not in before.adoptions:
                log.info("%s: adopted", name)
                self._listener(Adopted(adoption.spec))
        for name, port in after.attached.items():
            if before.attached.get(name) != port:
                log.info("%s: present on %s", name, port.address)
                self._listener(Attached(name, port))
        for address, reason in after.ignored.items():
            if before.ignored.get(address) != reason:
                log.warning("%s: not adopted: %s", address, reason)


def identity_of(spec: BoardSpec) -> tuple[object, ...]:
    """Return what makes a board of an entry another one when it changes."""
    return spec.name, spec.link, spec.unique_id, spec.attach


def rule_identity(rule: AdoptRule) -> tuple[object, ...]:
    """Return what makes other boards of a rule's when it changes."""
    return rule.usb, rule.name, rule.attach


def _without(matching: Matching, names: Collection[str]) -> Matching:
    return replace(
        matching,
        attached={name: port for name, port in matching.attached.items() if name not in names},
        reasons={name: reason for name, reason in matching.reasons.items() if name not in names},
        adoptions={name: adoption for name, adoption in matching.adoptions.items() if name not in names},
    )
