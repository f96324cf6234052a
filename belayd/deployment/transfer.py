"""A deployment as one job of a board: list, plan, check the room, stage and verify, commit.

Nothing is touched before the plan is known to fit, and nothing of the tree before all
that is new is on the board, verified, with the journal of what becomes of it: what
breaks off is completed or undone at the next contact (`journal`). In place, each file
is whole at every moment, the tree as a whole is not: what breaks off leaves some files
new and others old, and the next deployment carries on from there.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace

from belayd.deployment import carrying, journal, listing
from belayd.deployment.paths import check_destination
from belayd.deployment.plan import ManifestFile, Plan, check_manifest, plan
from belayd.deployment.sender import Contents, Conversation, Progress, Report, Sender, estimate, in_place
from belayd.deployment.space import bytes_needed, bytes_staged
from belayd.deployment.writing import Ask, Change, Folder, Put, own_file
from belayd.errors import (
    BelaydError,
    BoardFull,
    InternalError,
    OutOfMemory,
    ReadOnly,
    RequestInvalid,
    Unsupported,
)
from belayd.outcome import BoardRaised
from belayd.snapshot import Facts

__all__ = ["Contents", "Conversation", "Options", "Plan", "Progress", "Report", "Summary", "deploy"]

_USUAL = re.compile(r"[\w.-]{1,60}", re.ASCII)  # of a name: any filesystem has such
LEAST_FREE_BYTES = 12 * 1024
"""Of heap. Measured: 24 kB are enough on a 64-bit interpreter, whose objects are twice as large; 20 are not."""
JOURNAL_WIRE_BYTES = 2400
"""For the text that carries a journal out, deflated, its two calls and their answers."""
LEAST_JOURNAL_BYTES = 20 * 1024
"""Of heap, to carry out a journal: 40 kB are enough on such an interpreter, 36 are not."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is wanted of a deployment; each as DeployRequest has it, `only` and `folders` as `plan` does.

    Attributes:
        hashed_bytes: Files that are not in the manifest are told apart up to this size too.
        in_place: Replace each file as soon as it is verified, not all together at the end.
    """

    destination: str = "/"
    prune: bool = False
    keep: Sequence[str] = ()
    prune_also: Sequence[str] = ()
    dry_run: bool = False
    only: Collection[str] | None = None
    folders: Sequence[str] = ()
    hashed_bytes: int = -1
    in_place: bool = False


Remember = Callable[[Plan, listing.Listing], Awaitable[None]]
"""Keeps what a plan will replace and delete."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How a deployment ended.

    Attributes:
        payload_bytes: Of the files written.
        skipped_bytes: Of the files that were equal already.
        wire_bytes: Sent and received on the board's link, for all of it.
        round_trips: Times that something was sent and then an answer came.
        settled: What became of an earlier deployment that had broken off, None if there was none.
    """

    files_written: int
    files_same: int
    files_deleted: int
    payload_bytes: int
    skipped_bytes: int
    wire_bytes: int
    round_trips: int
    settled: journal.Settled | None = None


async def deploy(
    board: Conversation,
    manifest: Sequence[ManifestFile],
    contents: Contents,
    options: Options,
    report: Report,
    remember: Remember | None = None,
    told: journal.Told | None = None,
) -> Summary:
    """Make the board's files below a destination equal to `manifest`.

    `report` gets the plan once, before anything is touched, then progress about
    once an exec. `contents` is asked for one file at a time, and only for those
    that are written. `remember` hears of plan and listing when nothing refuses them
    any more and nothing is touched yet, `told` as `journal.commit` has it. A dry run
    ends after the plan. After an error or a cancellation the tree is the old one, or the
    next contact settles it; in place, some files are new, the others as they were.

    Raises:
        RequestInvalid: As `plan`; nothing was touched.
        Unsupported: This board cannot compare files; nothing was touched.
        BoardFull: It does not fit (fields need, free; nothing was touched), or
            the filesystem was full all the same (field path).
        ReadOnly: Its USB drive has the filesystem (nothing was touched), or as `Sender.send`.
        OutOfMemory, InternalError: As `Sender.send` and `journal.commit`.
    """
    check_manifest(manifest)
    destination = check_destination(options.destination)
    _refuse_unfit(board.facts, options)
    traffic = board.traffic
    wire_bytes, round_trips = _wire_bytes(board), traffic.round_trips
    largest = max((options.hashed_bytes, *(file.size for file in manifest)))
    found = await _list(board, destination, largest)
    settled = None
    if found.unsettled:
        settled = await journal.settle(board)
        found = await _list(board, destination, largest)
    wanted = plan(
        found,
        manifest,
        destination=destination,
        prune=options.prune,
        keep=options.keep,
        prune_also=options.prune_also,
        only=options.only,
        folders=options.folders,
    )
    root = journal.root_of(destination, found.filesystems)
    changes = [] if wanted.empty else in_place(wanted) if options.in_place else _staging(wanted, root)
    estimated = await _estimate(board, changes, contents, options.in_place) if options.dry_run else 0
    if estimated:
        estimated += _wire_bytes(board) - wire_bytes  # the listing's, which is not free either
    wanted = replace(wanted, settled=settled, wire_bytes=estimated)
    await report(wanted)
    _refuse_read_only(wanted, found)
    _refuse_full(wanted, found, changes, options.in_place)
    if changes and not options.dry_run:
        if remember is not None:
            await remember(wanted, found)
        if options.in_place:
            await Sender(board, changes, contents, report).send()
        else:
            await _replace(board, root, changes, contents, report, told)
    return Summary(
        files_written=0 if options.dry_run else len(wanted.write),
        files_same=len(wanted.same),
        files_deleted=0 if options.dry_run else len(wanted.delete),
        payload_bytes=0 if options.dry_run else wanted.payload_bytes,
        skipped_bytes=wanted.same_bytes,
        wire_bytes=_wire_bytes(board) - wire_bytes,
        round_trips=traffic.round_trips - round_trips,
        settled=settled,
    )


def _staging(wanted: Plan, root: str) -> list[Change]:
    """Return the changes that bring all that is new onto the board, the journal last."""
    written = [
        Put(write.path, journal.staged(root, index), write.sha256, write.size)
        for index, write in enumerate(wanted.write)
    ]
    first = written[0].path if written else wanted.destination
    folders = journal.staging_folders(root, len(written))
    return [
        *(Folder(first, folder) for folder in folders),
        *_doubtful(wanted, root),
        *written,
        own_file(journal.journal_path(root), journal.records(wanted, root)),
    ]


def _doubtful(wanted: Plan, root: str) -> list[Change]:
    """Return what asks for each name that FAT may refuse: too late, once the tree is touched."""
    places: dict[str, str] = {}
    for path in (*wanted.make_folders, *(write.path for write in wanted.write if write.replaces is None)):
        for part in path[len(root) + 1 :].split("/"):
            if not _USUAL.fullmatch(part):
                places.setdefault(f"{root}/{part}", path)
    asked: list[Change] = [Ask(path, place) for place, path in places.items()]
    # FAT takes a backslash for a '/': then there is no folder of such a name to be made.
    asked += [Folder(path, f"{root}/{journal.STAGING}/d\\d") for path in places.values() if "\\" in path][:1]
    return asked


async def _replace(
    board: Conversation,
    root: str,
    changes: Sequence[Change],
    contents: Contents,
    report: Report,
    told: journal.Told | None,
) -> None:
    """Stage everything, then replace everything; undo at once what fails before that."""
    staged = False
    try:
        await Sender(board, changes, contents, report).send()
        staged = True
    finally:
        if not staged and board.proven:
            # What led here is told; what cannot be undone now is at the next contact.
            with contextlib.suppress(BelaydError, BoardRaised):
                await journal.settle(board)
    await journal.commit(board, root, told)


async def _estimate(
    board: Conversation, changes: Sequence[Change], contents: Contents, in_place: bool
) -> int:
    """Return about how many bytes will go over the link; 0 where contents are not here."""
    try:
        return await estimate(board, changes, contents) + (0 if in_place else JOURNAL_WIRE_BYTES)
    except RequestInvalid:
        return 0


async def _list(board: Conversation, destination: str, largest: int) -> listing.Listing:
    short, lean = listing.sources(destination, largest, board.facts)
    try:
        try:
            output = await (
                carrying.command(board, lean) if carrying.carries(board) else board.command(short)
            )
        except OutOfMemory:
            output = await board.command(lean)
    except BoardRaised as raised:
        raise InternalError(f"the board could not list {destination!r}: {raised}") from raised
    return listing.parse(output)


def _refuse_unfit(facts: Facts, options: Options) -> None:
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
    if free is not None and free < LEAST_JOURNAL_BYTES and not (options.in_place or options.dry_run):
        raise Unsupported(
            f"{name}: {free} bytes of its memory are free and replacing all files together needs "
            f"{LEAST_JOURNAL_BYTES}; reset the board, or consent to replacing them one by one (in_place, "
            "--in-place): what breaks off then leaves some of them new and others old",
            free=free,
            need=LEAST_JOURNAL_BYTES,
        )


def _refuse_read_only(wanted: Plan, found: listing.Listing) -> None:
    if found.read_only and (wanted.clear or wanted.make_folders or wanted.write or wanted.prune):
        raise ReadOnly(
            f"{wanted.destination!r} cannot be written by the board itself while its USB drive (CIRCUITPY) is "
            "there; put storage.disable_usb_drive() or storage.remount('/', readonly=False) into its boot.py "
            "and reset it, or eject the drive on the host",
            path=wanted.destination,
        )


def _refuse_full(wanted: Plan, found: listing.Listing, changes: Sequence[Change], at_once: bool) -> None:
    if found.usage is None or not found.usage.block_bytes or not changes:
        return
    block = found.usage.block_bytes
    free = found.usage.free_bytes
    least = bytes_needed(wanted, block)
    if at_once:
        need, why = least, "each file is written beside the old one"
    else:
        last = changes[-1]
        need = bytes_staged(wanted, block, last.size if isinstance(last, Put) else 0)
        why = "all new files are written beside the old ones"
    if need <= free:
        return
    consent = (
        f"or consent to replacing the files one by one (in_place, --in-place), which needs {least}: what breaks "
        "off then leaves some of them new and others old"
    )
    advice = consent if least <= free and not at_once else "or deploy fewer files"
    raise BoardFull(
        f"{wanted.destination!r} needs {need} bytes free, since {why}, and has {free}; "
        f"delete something on the board, {advice}",
        need=need,
        free=free,
        need_in_place=least,
    )


def _wire_bytes(board: Conversation) -> int:
    return board.traffic.sent_bytes + board.traffic.received_bytes
