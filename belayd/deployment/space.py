"""How much room a plan takes at its fullest moment: pure.

Each file is written beside the one it replaces, so both count until the rename.
LittleFS and FAT give out whole blocks. Measured on LittleFS with 4 kB blocks: a
folder takes two, an empty file none, every other file at least one unless it is
smaller than about 100 bytes, which is not counted on.
"""

from __future__ import annotations

from belayd.deployment.plan import Plan

FOLDER_BLOCKS = 2
POINTER_BYTES = 8
"""Of each block, LittleFS takes that much on average to find the block before."""
ENTRY_BYTES = 64
"""A name's entry beside the name itself, doubled as LittleFS mirrors what it knows of a folder."""
SPARE_BLOCKS = 2
"""LittleFS copies a folder's pair before it gives the old one up."""


def bytes_needed(plan: Plan, block_bytes: int) -> int:
    """Return what must be free on a filesystem with such blocks; 0 if nothing is written."""
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
