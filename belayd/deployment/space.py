"""How much room a plan takes at its fullest moment: pure.

Staged, all that is new lies beside all that is old until the end. In place, each file
is written beside the one it replaces, so both count until the rename.
LittleFS and FAT give out whole blocks. Measured on LittleFS with 4 kB blocks: a
folder takes two, an empty file none, every other file at least one unless it is
smaller than about 100 bytes, which is not counted on.
"""

from __future__ import annotations

from belayd.deployment.journal import staging_folders
from belayd.deployment.plan import Plan

FOLDER_BLOCKS = 2
POINTER_BYTES = 8
"""Of each block, LittleFS takes that much on average to find the block before."""
ENTRY_BYTES = 64
"""A name's entry beside the name itself, doubled as LittleFS mirrors what it knows of a folder."""
SPARE_BLOCKS = 2
"""LittleFS copies a folder's pair before it gives the old one up."""


def bytes_staged(plan: Plan, block_bytes: int, journal_bytes: int) -> int:
    """Return what must be free on a filesystem with such blocks to replace everything at the end.

    0 if nothing is written: whether a full board has room for the journal alone is seen when it is staged.
    """
    if not plan.write and not plan.make_folders:
        return 0
    staging = len(staging_folders("", len(plan.write)))
    used = FOLDER_BLOCKS * (staging + len(plan.make_folders)) + _blocks(journal_bytes, block_bytes)
    used += 2 * FOLDER_BLOCKS * (staging > 1)  # measured: LittleFS splits what others are made in
    entries = 0
    for write in plan.write:
        used += _blocks(write.size, block_bytes)
        entries += ENTRY_BYTES + 2 * len(write.path.rpartition("/")[2].encode())
    return (used + -(-entries // block_bytes) + SPARE_BLOCKS) * block_bytes


def bytes_needed(plan: Plan, block_bytes: int) -> int:
    """Return what must be free on a filesystem with such blocks, in place; 0 if nothing is written."""
    if not plan.write and not plan.make_folders:
        return 0
    used = -sum(deletion.size // block_bytes for deletion in plan.clear)
    used += FOLDER_BLOCKS * len(plan.make_folders)
    peak = used
    entries = 0
    for write in plan.write:
        used += _blocks(write.size, block_bytes)
        peak = max(peak, used)
        if write.replaces is None:
            entries += ENTRY_BYTES + 2 * len(write.path.rpartition("/")[2].encode())
        else:
            used -= write.replaces // block_bytes
    return max(0, peak + -(-entries // block_bytes) + SPARE_BLOCKS) * block_bytes


def _blocks(size: int, block_bytes: int) -> int:
    return -(-size // max(block_bytes - POINTER_BYTES, 1))
