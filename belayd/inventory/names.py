"""Board names: the rule, and how text from strangers is brought to it."""

from __future__ import annotations

import re
import unicodedata

BOARD_NAME = re.compile(r"[a-z0-9-]{1,63}")


def clean_name(text: str) -> str:
    """Return `text` as a board's name: lower case, all else one "-", at most 63; "" if nothing is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:63].rstrip("-")
