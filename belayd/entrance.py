"""Who comes in, whichever door: the principal behind a token, a certificate, a socket or nothing.

    door                       shows nothing          certificate      token
    unix socket                its owner, admin       -                the token's principal
    loopback                   local, user            its name         the token's principal
    beyond it, TLS             refused                its name         the token's principal
    beyond it, in the clear    refused, or local,     -                refused: it was on the wire
                               user with --insecure

A token wins over the certificate it comes with. A certificate's name is its SAN's
e-mail address, else its first DNS name: only who has the CA's key can choose it.
Its role and selector are those of the entry of that name in the file of tokens,
and user of all boards without one; a revoked or expired entry keeps it out.

The file is looked at (one stat) whenever a token or certificate is shown, and by
`watch`; what stands in it counts at once. Failures are counted and slowed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from belayd.access import LOCAL, NAME, Principal, Role
from belayd.attempts import Attempts
from belayd.errors import Unauthenticated
from belayd.tokens import MOST_TOKEN, Entry, Table, Tokens, TokensFailed, digest

log = logging.getLogger(__name__)

_ASK = "ask an administrator of the daemon for a token (belayd token create)"
_GIVE = "give it with --token-file, BELAYD_TOKEN or `belayctl login`"


@dataclass(frozen=True, slots=True)
class Door:
    """A place where callers come in.

    Attributes:
        loopback: Only callers of this host reach it.
        encrypted: It speaks TLS.
        open: Whoever shows nothing is let in as on loopback (--insecure).
        owner: Whose a unix socket is, as principal; "" for any other door.
    """

    loopback: bool
    encrypted: bool = False
    open: bool = False
    owner: str = ""

    @property
    def kind(self) -> str:
        """What to call it in a record: unix, tls, loopback or open."""
        if self.owner:
            return "unix"
        return "tls" if self.encrypted else "loopback" if self.loopback else "open"


LOOPBACK = Door(loopback=True)


@dataclass(frozen=True, slots=True)
class Caller:
    """What a caller shows.

    Attributes:
        address: Where it comes from, as failures are counted by.
        token: The digest of the bearer token; None without one.
        names: The names of its certificate, which TLS has verified; the first counts.
        problem: What is wrong with the way it shows its token; "" for nothing.
    """

    address: str
    token: bytes | None = None
    names: tuple[str, ...] = ()
    problem: str = ""


def bearer(headers: list[str]) -> tuple[bytes | None, str]:
    """Read `authorization` headers: a token's digest, and what is wrong with them, "" for nothing."""
    if not headers:
        return None, ""
    scheme, _, text = headers[0].strip().partition(" ")
    text = text.strip()
    if len(headers) > 1 or scheme.lower() != "bearer" or not 0 < len(text) <= MOST_TOKEN:
        return None, "the authorization header is not one `Bearer TOKEN`"
    return digest(text), ""


class Entrance:
    """Decides who a caller is, by the file of tokens as it is now.

    Args:
        failed: Told of each failure: missing, malformed, in_the_clear, unknown,
            expired, revoked, certificate or unreadable.
        now: The time of day, aware.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        tokens: Tokens,
        failed: Callable[[str], None],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = tokens
        self._failed = failed
        self._now = now
        self._clock = clock
        self._attempts = Attempts()
        self._table: Table | None = None  # None: the file cannot be read, and no token counts
        self._seen: object = self  # no signature of the file
        self._reading = asyncio.Lock()

    async def open(self) -> None:
        """Read the file for the first time.

        Raises:
            TokensFailed: It cannot be read.
        """
        self._seen = self._tokens.signature()
        self._table = Table(await asyncio.to_thread(self._tokens.read))

    async def admit(self, door: Door, caller: Caller) -> Principal:
        """Return who the caller is.

        Raises:
            Unauthenticated: It may not come in; raised late where its address fails often.
        """
        try:
            if caller.token is not None or caller.names:
                await self.refresh()
            return self._resolve(door, caller)
        except Unauthenticated as error:
            self._failed(error.fields["problem"])
            delay = self._attempts.failed(caller.address, self._clock())
            if delay:
                with self._attempts.waiting(caller.address):
                    await asyncio.sleep(delay)
            raise

    def recheck(self, door: Door, caller: Caller, principal: Principal) -> Unauthenticated | None:
        """Return why somebody who came in as `principal` has to leave; None if it may stay."""
        if self._table is None:  # not their fault; nobody new comes in meanwhile
            return None
        try:
            if self._resolve(door, caller) == principal:
                return None
        except Unauthenticated as error:
            return error
        return _refusal("revoked", f"the rights of {principal.name!r} have changed; connect again")

    def rights(self, principal: Principal) -> Principal:
        """Return what whoever came in as `principal` may do now, for what goes on without it.

        Raises:
            Unauthenticated: Its entry was revoked, or has expired.
        """
        entry = self._table.of_name(principal.name) if self._table else None
        return principal if entry is None else self._valid(entry, f"the entry {entry.name!r}").principal

    async def refresh(self) -> None:
        """Read the file again if it has changed."""
        if self._tokens.signature() == self._seen:
            return
        async with self._reading:
            # Before the reading: a change during it is seen next time.
            seen = self._tokens.signature()
            if seen == self._seen:
                return
            try:
                self._table = Table(await asyncio.to_thread(self._tokens.read))
            except TokensFailed as error:
                log.error("no token counts until this is mended: %s", error)
                self._table = None
            self._seen = seen

    async def watch(self) -> None:
        """Look once whether the file has changed, also where it could not be read before."""
        if self._table is None:
            self._seen = self
        await self.refresh()

    def _resolve(self, door: Door, caller: Caller) -> Principal:
        if caller.token is not None or caller.problem:
            return self._by_token(door, caller)
        if caller.names:
            return self._by_certificate(caller.names[0])
        if door.owner:
            return Principal(door.owner, Role.ADMIN)
        if door.loopback or door.open:
            return LOCAL
        raise _refusal("missing", f"this address asks for a token or a certificate; {_ASK} and {_GIVE}")

    def _by_token(self, door: Door, caller: Caller) -> Principal:
        if not (door.loopback or door.encrypted):
            raise _refusal(
                "in_the_clear",
                "a token came over the network in the clear and others may have read it: have it revoked, "
                "and connect over TLS with a new one",
            )
        if caller.token is None:
            raise _refusal("malformed", f"{caller.problem}; {_GIVE}")
        entry = self._entries().of_token(caller.token)
        if entry is None:
            raise _refusal("unknown", f"this daemon knows no such token; {_ASK}, and {_GIVE}")
        return self._valid(entry, f"the token {entry.name!r}").principal

    def _by_certificate(self, name: str) -> Principal:
        if not NAME.fullmatch(name) or name == LOCAL.name:
            raise _refusal(
                "certificate",
                f"the certificate's name {name[:80]!r} cannot name a principal; issue one with an e-mail "
                "address or DNS name of letters, digits and . _ @ + -, at most 63",
            )
        entry = self._entries().of_name(name)
        if entry is None:
            return Principal(name, Role.USER)
        return self._valid(entry, f"the entry of the certificate {name!r}").principal

    def _entries(self) -> Table:
        if self._table is None:
            raise _refusal("unreadable", "the daemon cannot read its tokens; its log says why")
        return self._table

    def _valid(self, entry: Entry, what: str) -> Entry:
        match entry.state(self._now()):
            case "revoked":
                raise _refusal("revoked", f"{what} was revoked; {_ASK}")
            case "expired":
                raise _refusal("expired", f"{what} expired on {entry.expires:%Y-%m-%d}; {_ASK}")
        return entry


def _refusal(problem: str, message: str) -> Unauthenticated:
    return Unauthenticated(message, problem=problem)
