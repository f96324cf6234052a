"""Names on a board changed: renamed, deleted, made. Contents are `writing`'s."""

from __future__ import annotations

import ast

from belayd.deployment.encoding import text_literal
from belayd.errors import FileNotFound, RequestInvalid, Unsupported
from belayd.files.asking import Conversation, ask, unclear
from belayd.files.failing import failure
from belayd.files.names import is_name
from belayd.files.small import flat_name, is_small

BUSY = 16
COUNTS = range(1 << 32)


async def move(session: Conversation, path: str, to: str, replace: bool = False) -> None:
    """Rename a file or folder on one filesystem.

    Paths are as `names.check_below_root` returns them. With `replace` a file that is
    called `to` gives way; a folder never does.

    Raises:
        FileNotFound: There is no `path`, or no folder for `to`.
        RequestInvalid: `to` is taken, lies in `path`, or is on another filesystem.
    """
    if f"{to}/".startswith(f"{path}/"):
        if to == path:
            return
        raise RequestInvalid(f"{path!r} cannot go to {to!r}, which lies in it", field="to", path=to)
    if is_small(session.facts):
        raise Unsupported("this board cannot rename files; copy it under the new name and delete the old")
    try:
        await _change(session, "move", path, to, replace)
    except FileNotFound as error:
        if error.fields.get("path") == path:
            raise
        raise FileNotFound(f"{error.message}; make the folder first", path=to) from None


async def delete(session: Conversation, path: str, recursive: bool = False, missing_ok: bool = False) -> int:
    """Delete a file or a folder, with `recursive` its contents too; return how many of both went.

    What breaks off half-way leaves what was not deleted yet.

    Raises:
        FileNotFound: There is nothing, and that is not `missing_ok`.
        RequestInvalid: The folder is not empty, or a filesystem is mounted there or below.
    """
    if not is_small(session.facts):
        return await _change(session, "delete", path, recursive, missing_ok)
    try:
        await ask(session, path, f"__import__('os').remove({text_literal(flat_name(path))})")
    except FileNotFound:
        if missing_ok:
            return 0
        raise
    return 1


async def make_folder(session: Conversation, path: str, parents: bool = False) -> int:
    """Make a folder, with `parents` those that lead to it too; return how many were made.

    Raises:
        FileNotFound: There is no folder to make it in.
        RequestInvalid: It is there, and `parents` is false; or a file is in the way.
    """
    if is_small(session.facts):
        raise Unsupported("this board has no folders")
    return await _change(session, "make", path, parents)


async def touch(session: Conversation, path: str, parents: bool = False) -> bool:
    """Make an empty file unless there is one; return whether it was made.

    Raises:
        FileNotFound: There is no folder to make it in, and `parents` is false.
        RequestInvalid: It is a folder.
    """
    if not is_small(session.facts):
        return bool(await _change(session, "touch", path, parents))
    name = text_literal(flat_name(path))
    there = await ask(session, path, f"print({name} in __import__('os').listdir())")
    if there.strip() == b"True":
        return False
    await ask(session, path, f"open({name},'w').close()")
    return True


async def _change(session: Conversation, name: str, path: str, *arguments: str | bool) -> int:
    """Do what onboard/changes.py calls `name`; return what it did."""
    words = [text_literal(word) if isinstance(word, str) else repr(word) for word in (path, *arguments)]
    output = await ask(session, path, f"_BF('{name}',{','.join(words)})\ndel _BF\n", "changes")
    try:
        answer = ast.literal_eval(output.rpartition(b"\x1e")[2].partition(b"\n")[0].strip().decode())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise unclear(path, str(error)) from None
    match answer:
        case (bool() | int() | None as done, None, None) if (done or 0) in COUNTS:
            return done or 0
        case (None, int(errno), (str() | None) as where):
            raise _refusal(name, errno, _believable(where) or path)
    raise unclear(path, "it makes no sense")


def _believable(path: str | None) -> str | None:
    """Return a path that a board gave for a message, None if it can be none."""
    believable = path is not None and all(map(is_name, path[1:].split("/")))
    return path if believable else None


def _refusal(name: str, errno: int, path: str) -> Exception:
    if errno == BUSY:
        return RequestInvalid(
            f"a filesystem is mounted at {path!r}: that stays; name what lies in it", field="path", path=path
        )
    if name == "move" and errno in (1, 18):  # as mp_vfs_rename says it, and as the host does
        return RequestInvalid(
            f"{path!r} cannot be renamed to another filesystem; copy it there and delete it here",
            field="to",
            path=path,
        )
    what = {"move": "be renamed", "delete": "be deleted"}.get(name, "be made")
    return failure(path, errno, what)
