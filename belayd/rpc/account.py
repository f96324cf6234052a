"""What one RPC did, for the audit trail, read from the messages that pass the border.

Servicers know nothing of it, so that none can forget to tell. Every RPC that is not
known to be a mere reading is recorded, a new one too. Texts that run are kept as
hashes; tokens, arguments and output are never looked at.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from belayd.audit import Deed
from belayd.call import MOST_NAME
from belayd.errors import BelaydError, PermissionDenied
from belayd.rpc.conversation import MOST_EXPRESSION, MOST_STEPS
from belayd.rpc.deployments import MOST_FILES
from belayd.run import OUTCOMES

MOST_TEXT = 1 << 20
"""Characters; what is longer is refused before it runs, and hashing it would hold up others."""
MOST_PATH = 400
"""Characters of a path that are recorded."""
READINGS = ("Get", "List", "Watch", "Read", "Verify", "Check", "ServerReflectionInfo")
"""How the names of RPCs begin that change and use nothing; recorded when the caller had no right to them."""
QUIET = frozenset({"RenewLease", "PutBlobs", "ReleaseLease"})
"""Recorded only when refused: too many, without effect on a board, or told by the lease's end."""


class Account:
    """One RPC's, from its first message to its end.

    `heard` and `told` get each message of the client and to it; `deed` then says what
    is to be recorded.

    Attributes:
        concluded: Whether the client was told all that it asked for.
    """

    def __init__(self, method: str, lease: Callable[[str], str]) -> None:
        """`method` is "package.Service/Method"; `lease` returns the name of a board's lease."""
        self.board = ""
        self.lease = ""
        self.what = b""
        self.detail = ""
        self.outcome = "ok"
        self.concluded = False
        self._action = method.rpartition("belayd.v1.")[2]
        self._lease_of = lease
        self._begun = False

    def heard(self, message: Any) -> None:
        """Note a message from the client."""
        if not self._begun:
            self._begun = True
            self.begin(message)

    def begin(self, message: Any) -> None:
        """Note the first message: which board and lease, what source, why."""
        self._place(message)
        for kind in ("source", "expression"):
            text = getattr(message, kind, "")
            if text and len(text) <= MOST_TEXT:
                self.what = hashlib.sha256(text.encode()).digest()
        self.detail = getattr(message, "reason", "") or ("hard" if getattr(message, "hard", False) else "")

    def told(self, message: Any) -> None:
        """Note a message to the client."""

    def left(self) -> str:
        """Return how it ended if the client left, perhaps with all that it wanted."""
        return self.outcome if self.concluded else "cancelled"

    def deed(self, error: BelaydError | None, finished: bool) -> Deed | None:
        """Return what is to be recorded; None for nothing.

        Args:
            error: What it was refused or ended with.
            finished: Whether, without an error, it was served to its end.
        """
        name = self._action.partition("/")[2]
        if name.startswith(READINGS):
            recorded = isinstance(error, PermissionDenied)
        else:
            recorded = error is not None or name not in QUIET
        if not recorded:
            return None
        if error is None:
            outcome, reason = self.outcome if finished else self.left(), ""
        else:
            outcome, reason = OUTCOMES.get(error.reason, "rejected"), error.reason
        lease = self.lease
        if error is not None and (outcome == "rejected" or "lease" in error.fields):
            lease = error.fields.get(
                "lease", ""
            )  # the token shown may not have been that of the board's lease
        return Deed(self._action, self.board, lease, self.what, outcome, reason, self.detail)

    def _place(self, message: Any) -> None:
        for field in ("board", "name"):
            value = getattr(message, field, "")
            if isinstance(value, str) and value.startswith("boards/"):
                self.board = _bare(value)
        if self.board and getattr(message, "lease_token", ""):
            self.lease = self._lease_of(self.board)


class _Task(Account):
    """RunTask, CallTask: a function's name is no source."""

    def begin(self, message: Any) -> None:
        super().begin(message)
        function = getattr(message, "function", "")
        if len(function) <= MOST_NAME and function.replace(".", "_").isidentifier():
            self.detail = function

    def told(self, message: Any) -> None:
        # Of a result that is not there yet nothing is set.
        kind = message.result.WhichOneof("outcome")
        self.concluded = kind is not None
        if kind == "exception":
            self.outcome = "board_error"


class _Detached(Account):
    """StartRun, CancelRun: which run it was."""

    def begin(self, message: Any) -> None:
        super().begin(message)
        self.detail = getattr(message, "name", "")

    def told(self, message: Any) -> None:
        self.board, self.detail = _bare(message.run.board), message.run.name


class _Rollout(Account):
    """CreateRollout, PauseRollout and so on: which rollout it was, over how many boards, and why."""

    def begin(self, message: Any) -> None:
        super().begin(message)
        self._say(getattr(message, "name", ""), self.detail)

    def told(self, message: Any) -> None:
        self.concluded = True
        boards = len(message.rollout.boards)
        count = f"{message.rollout.name}, {boards} board" + "s" * (boards != 1)
        self._say(count, self._why)

    def _say(self, name: str, why: str) -> None:
        self._why = why
        self.detail = f"{name}: {why}" if name and why else name or why


class _Conversation(Account):
    """Converse: one record, with the number of its steps and how they ended.

    `what` is over its expressions, each with a line end after it.
    """

    def __init__(self, method: str, lease: Callable[[str], str]) -> None:
        super().__init__(method, lease)
        self._steps = 0
        self._ends: Counter[str] = Counter()
        self._texts: Any = None

    def heard(self, message: Any) -> None:
        super().heard(message)
        if len(message.steps) > MOST_STEPS:
            return  # the conversation ends with it
        for step in message.steps:
            kind = step.WhichOneof("step")
            if kind == "expression" and len(step.expression) <= MOST_EXPRESSION:
                self._texts = self._texts or hashlib.sha256()
                self._texts.update(step.expression.encode() + b"\n")
            if kind != "cancel" and kind != "order":
                self._steps += 1

    def told(self, message: Any) -> None:
        for event in message.events:
            kind = event.WhichOneof("event")
            if kind == "result":
                raised = event.result.WhichOneof("outcome") == "exception"
                self._ends["board_error" if raised else "ok"] += 1
            elif kind == "error":
                self._ends[OUTCOMES.get(event.error.reason, "rejected")] += 1

    def left(self) -> str:
        # Clients end a conversation by leaving it: that cuts off nothing unless a step was under way.
        return "cancelled" if self._open else "ok"

    def deed(self, error: BelaydError | None, finished: bool) -> Deed | None:
        if self._texts is not None:
            self.what = self._texts.digest()
        ends = self._ends + Counter({"cancelled": self._open})
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(ends.items()))
        steps = f"{self._steps} step" + "s" * (self._steps != 1)
        self.detail = f"{steps}: {told}" if told else steps
        return super().deed(error, finished)

    @property
    def _open(self) -> int:
        return max(0, self._steps - self._ends.total())


class _Acquisition(Account):
    """AcquireLease: which board it was and the lease are known with the grant."""

    def begin(self, message: Any) -> None:
        super().begin(message)
        self.detail = ": ".join(filter(None, (message.holder, message.reason)))

    def told(self, message: Any) -> None:
        if message.WhichOneof("step") == "granted":
            self.concluded = True
            self.board, self.lease = _bare(message.granted.lease.board), _bare(message.granted.lease.name)


class _Break(Account):
    """BreakLease: whose lease it was, and why."""

    def told(self, message: Any) -> None:
        self.lease = _bare(message.lease.name)
        self.detail = f"of {message.lease.holder}: {self.detail}"


class _Deployment(Account):
    """Deploy: the hash of the manifest as sha256sum would print it, by path."""

    def begin(self, message: Any) -> None:
        super().begin(message)
        more = (", pruned" if message.prune else "") + (", dry run" if message.dry_run else "")
        files = f"{len(message.files)} file" + "s" * (len(message.files) != 1)
        self.detail = f"{files} to {message.destination or '/'}{more}"
        if len(message.files) <= MOST_FILES:
            lines = sorted((file.path, file.sha256.hex()) for file in message.files)
            text = "".join(f"{sha256}  {path}\n" for path, sha256 in lines)
            self.what = hashlib.sha256(text.encode()).digest()

    def told(self, message: Any) -> None:
        self.concluded = message.WhichOneof("step") == "summary"


class _FileChange(Account):
    """WriteFile, MoveFile, DeleteFile, MakeDirectory: which file, and what became of it."""

    def begin(self, message: Any) -> None:
        message = getattr(message, "start", message)
        super().begin(message)
        to = getattr(message, "to", "")
        self.detail = message.path[:MOST_PATH] + (f" to {to[:MOST_PATH]}" if to else "")
        if getattr(message, "recursive", False):
            self.detail += " and all in it"
        if not getattr(message, "create_only", False):
            self.what = getattr(message, "sha256", b"")[:32]


class _Console(Account):
    """Attach: who typed, and who only watched."""

    def __init__(self, method: str, lease: Callable[[str], str]) -> None:
        super().__init__(method, lease)
        self._typed_bytes = 0

    def begin(self, message: Any) -> None:
        self._place(message.start)
        self.detail = "watched" if message.start.observe else ""

    def heard(self, message: Any) -> None:
        super().heard(message)
        self._typed_bytes += len(message.input)

    def left(self) -> str:
        return "ok"  # there is no other end

    def deed(self, error: BelaydError | None, finished: bool) -> Deed | None:
        self.detail = self.detail or f"typed {self._typed_bytes} bytes"
        return super().deed(error, finished)


class _Upkeep(Account):
    """ReloadInventory, Drain: what the daemon does stays done when the client leaves."""

    def begin(self, message: Any) -> None:
        super().begin(message)
        if getattr(message, "dry_run", False):
            self.detail = "dry run"
        elif getattr(message, "off", False):
            self.detail = "off"

    def told(self, message: Any) -> None:
        self.concluded = True


class _Reading(Account):
    """What only reads: the board, in case that it is not the caller's."""

    def begin(self, message: Any) -> None:
        self._place(message)

    def told(self, message: Any) -> None:
        pass


def open_account(method: str, lease: Callable[[str], str]) -> Account:
    """Return an account for an RPC, "package.Service/Method"."""
    name = method.partition("/")[2]
    kind = _Reading if name.startswith(READINGS) else _ACCOUNTS.get(name, Account)
    return kind(method, lease)


_ACCOUNTS: Mapping[str, type[Account]] = MappingProxyType(
    {
        "RunTask": _Task,
        "CallTask": _Task,
        "StartRun": _Detached,
        "CancelRun": _Detached,
        "Converse": _Conversation,
        "AcquireLease": _Acquisition,
        "BreakLease": _Break,
        "Deploy": _Deployment,
        "CreateRollout": _Rollout,
        "PauseRollout": _Rollout,
        "ResumeRollout": _Rollout,
        "AbortRollout": _Rollout,
        "WriteFile": _FileChange,
        "MoveFile": _FileChange,
        "DeleteFile": _FileChange,
        "MakeDirectory": _FileChange,
        "Attach": _Console,
        "PutBlobs": _Reading,
        "ReloadInventory": _Upkeep,
        "Drain": _Upkeep,
    }
)


def _bare(resource: str) -> str:
    return resource.partition("/")[2]
