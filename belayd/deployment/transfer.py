"""A deployment as one job of a board: list, plan, check the room, write, verify, prune.

Nothing is touched before the plan is known to fit. Each file is whole at every
moment; the tree as a whole is not: a deployment that breaks off leaves some files
new and others old, and the next one carries on from there, since only files that
differ are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from belayd.deployment import listing
from belayd.deployment.paths import check_destination
from belayd.deployment.plan import ManifestFile, Plan, check_manifest, plan
from belayd.deployment.sender import Contents, Conversation, Progress, Report, Sender
from belayd.deployment.space import bytes_needed
from belayd.errors import BoardFull, InternalError, OutOfMemory, ReadOnly, Unsupported
from belayd.outcome import BoardRaised
from belayd.snapshot import Facts

__all__ = ["Contents", "Conversation", "Options", "Plan", "Progress", "Report", "Summary", "deploy"]

LEAST_FREE_BYTES = 12 * 1024
"""Of heap. Measured: 20 kB are enough on a 64-bit interpreter, whose objects are twice as large; 18 are not."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is wanted of a deployment; each as DeployRequest has it."""

    destination: str = "/"
    prune: bool = False
    keep: Sequence[str] = ()
    prune_also: Sequence[str] = ()
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Summary:
    """How a deployment ended.

    Attributes:
        payload_bytes: Of the files written.
        skipped_bytes: Of the files that were equal already.
        wire_bytes: Sent and received on the board's link, for all of it.
        round_trips: Execs.
    """

    files_written: int
    files_same: int
    files_deleted: int
    payload_bytes: int
    skipped_bytes: int
    wire_bytes: int
    round_trips: int


async def deploy(
    board: Conversation,
    manifest: Sequence[ManifestFile],
    contents: Contents,
    options: Options,
    report: Report,
) -> Summary:
    """Make the board's files below a destination equal to `manifest`.

    `report` gets the plan once, before anything is touched, then progress about
    once an exec. `contents` is asked for one file at a time, and only for those
    that are written. A dry run ends after the plan. After an error or a
    cancellation some of the plan's files are new, the others as they were.

    Raises:
        RequestInvalid: As `plan`; nothing was touched.
        Unsupported: This board cannot compare files; nothing was touched.
        BoardFull: It does not fit (fields need, free; nothing was touched), or
            the filesystem was full all the same (field path).
        ReadOnly: Its USB drive has the filesystem (nothing was touched), or as `Sender.send`.
        OutOfMemory, InternalError: As `Sender.send`.
    """
    check_manifest(manifest)
    destination = check_destination(options.destination)
    _refuse_unfit(board.facts)
    before = _wire_bytes(board)
    found = await _list(board, destination, manifest)
    wanted = plan(
        found,
        manifest,
        destination=destination,
        prune=options.prune,
        keep=options.keep,
        prune_also=options.prune_also,
    )
    await report(wanted)
    _refuse_read_only(wanted, found)
    _refuse_full(wanted, found)
    sender = Sender(board, wanted, contents, report)
    if not options.dry_run:
        await sender.send()
    return Summary(
        files_written=0 if options.dry_run else len(wanted.write),
        files_same=len(wanted.same),
        files_deleted=0 if options.dry_run else len(wanted.delete),
        payload_bytes=0 if options.dry_run else wanted.payload_bytes,
        skipped_bytes=wanted.same_bytes,
        wire_bytes=_wire_bytes(board) - before,
        round_trips=1 + sender.round_trips,
    )


async def _list(board: Conversation, destination: str, manifest: Sequence[ManifestFile]) -> listing.Listing:
    largest = max((file.size for file in manifest), default=-1)
    short, lean = listing.sources(destination, largest, board.facts)
    try:
        try:
            output = await board.command(short)
        except OutOfMemory:
            output = await board.command(lean)
    except BoardRaised as raised:
        raise InternalError(f"the board could not list {destination!r}: {raised}") from raised
    return listing.parse(output)


def _refuse_unfit(facts: Facts) -> None:
    name = facts.machine or facts.platform
    if "hashlib" not in facts.modules:
        raise Unsupported(
            f"{name}: its firmware has no hashlib, so what the board holds cannot be compared; "
            "install a firmware that has it, or use run to execute code without storing files"
        )
    free = facts.memory_free_bytes
    if free is not None and free < LEAST_FREE_BYTES:
        raise Unsupported(
            f"{name}: {free} bytes of its memory are free and a deployment needs {LEAST_FREE_BYTES}; "
            "reset the board, or let its boot.py take less",
            free=free,
            need=LEAST_FREE_BYTES,
        )


def _refuse_read_only(wanted: Plan, found: listing.Listing) -> None:
    if found.read_only and (wanted.clear or wanted.make_folders or wanted.write or wanted.prune):
        raise ReadOnly(
            f"{wanted.destination!r} cannot be written by the board itself while its USB drive (CIRCUITPY) is "
            "there; put storage.disable_usb_drive() or storage.remount('/', readonly=False) into its boot.py "
            "and reset it, or eject the drive on the host",
            path=wanted.destination,
        )


def _refuse_full(wanted: Plan, found: listing.Listing) -> None:
    if found.usage is None or not found.usage.block_bytes:
        return
    need = bytes_needed(wanted, found.usage.block_bytes)
    free = found.usage.free_bytes
    if need > free:
        raise BoardFull(
            f"{wanted.destination!r} needs {need} bytes free, since each file is written beside the old one, "
            f"and has {free}; delete something on the board, or deploy fewer files",
            need=need,
            free=free,
        )


def _wire_bytes(board: Conversation) -> int:
    return board.traffic.sent_bytes + board.traffic.received_bytes
