"""How code on a board ended, as a value or an exception of this host."""

from __future__ import annotations

from belayd.v1 import tasks_pb2
from belayd_client.errors import BoardException, InternalError


def value_of(result: tasks_pb2.TaskResult) -> object:
    """Return a result's value.

    Raises:
        BoardException: The code raised.
        InternalError: The daemon sent what this client cannot read.
    """
    outcome = result.WhichOneof("outcome")
    if outcome == "value":
        if result.value.HasField("none"):
            return None
        from belayd import wire

        try:
            return wire.from_value(result.value)
        except ValueError as error:
            raise InternalError(f"belayd sent a value that cannot be read: {error}") from None
    if outcome == "exception":
        raised = result.exception
        raise BoardException(raised.type_name, raised.message, raised.traceback)
    raise InternalError("belayd sent a result that this client does not know; is it newer?")
