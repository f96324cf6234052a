"""What single values may be: each turns the text that was written into what it means.

Text is all they get; whatever else stands in a scalar's place is refused by
kind. Refusals carry a suggestion in their context, and never show what might be
a password.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from belayd.inventory.names import BOARD_NAME, clean_name
from belayd.inventory.problems import shown

LABEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
WRITTEN_AS_TEXT = {"type": ["string", "number", "boolean"]}  # an editor's YAML reads `0012` as a number

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LONGEST = 3650 * 86_400.0  # ten years: any longer overflows a date sooner or later
_WEBREPL_PORT = 8266


def refuse(message: str, suggestion: str = "") -> PydanticCustomError:
    """Return the error to raise for a value; the loader adds file, line and key."""
    return PydanticCustomError("inventory", "{message}", {"message": message, "suggestion": suggestion})


def kind_of(value: object) -> str:
    """Return what a value is, for people."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return "text"


def text_of(value: object) -> str:
    """Return `value` if it is text and not empty."""
    if value is None or value == "":
        raise refuse("has no value")
    if not isinstance(value, str):
        raise refuse(f"is {kind_of(value)} where text belongs")
    return value


def _boolean(value: object) -> bool:
    text = text_of(value)
    if text in ("true", "false"):
        return text == "true"
    meant = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
    lower = text.lower()
    guess = meant.get(lower, lower if lower in ("true", "false") else "")
    raise refuse(f"{shown(text)} is neither true nor false", f"write {guess or 'true or false'}")


def _integer(text: str, lowest: int, highest: int, example: int) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text, re.ASCII):
        raise refuse(f"{shown(text)} is not a whole number", f"write digits only, such as {example}")
    number = int(text)
    if not lowest <= number <= highest:
        raise refuse(f"{number} is out of range", f"from {lowest} to {highest}")
    return number


def _baudrate(value: object) -> int:
    text = text_of(value)
    if text == "1200":
        raise refuse("1200 baud makes many boards start their bootloader", "115200 is usual")
    return _integer(text, 300, 20_000_000, 115_200)


def _count(value: object) -> int:
    return _integer(text_of(value), 1, 1000, 20)


def _heap(value: object) -> int:
    return _integer(text_of(value), 32, 1024 * 1024, 512)


def _flash(value: object) -> int:
    return _integer(text_of(value), 32, 64 * 1024, 1024)


def _duration(value: object) -> float:
    text = text_of(value)
    match = _DURATION.fullmatch(text)
    if match is None:
        bare = re.fullmatch(r"[0-9]+(\.[0-9]+)?", text)
        suggestion = (
            f"did you mean {text}s?" if bare else "write a number and its unit, such as 30s, 10m or 8h"
        )
        raise refuse(f"{shown(text)} is not a duration", suggestion)
    seconds = float(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= _LONGEST:
        raise refuse(f"{shown(text)} is out of range", "more than 0, at most 3650d")
    return seconds


def _usb_number(value: object) -> int:
    text = text_of(value)
    match = re.fullmatch(r"(?:0[xX])?([0-9a-fA-F]{1,4})", text)
    if match is None:
        raise refuse(f"{shown(text)} is not a USB id", "write up to four hexadecimal digits, such as 2e8a")
    return int(match[1], 16)


def _usb_location(value: object) -> str:
    text = text_of(value)
    if text.startswith("/"):
        raise refuse(
            f"{shown(text)} is a path, not a place on the USB tree",
            "write one such as 1-1.4 (`belayd discover` prints them), or use `serial: {port: ...}`",
        )
    return text


def _unique_id(value: object) -> str:
    text = text_of(value)
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2}){2,32}", text):
        raise refuse(
            f"{shown(text)} is not a board's id",
            "write what `machine.unique_id().hex()` returns on the board, such as e6614c311b7e6f35",
        )
    return text.lower()


def _board_name(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if BOARD_NAME.fullmatch(text):
        return text
    cleaned = clean_name(text)
    suggestion = "use a-z, 0-9 and -, at most 63 of them" + (f", such as {cleaned}" if cleaned else "")
    raise refuse("is not a board's name", suggestion)


def _label_name(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if text == "name":
        raise refuse("no label can be called name", "selectors use it for the board's own name")
    if not LABEL_NAME.fullmatch(text):
        raise refuse("is not a label's name", "use letters, digits, _ . and -, at most 63 of them")
    return text


def _label_value(value: object) -> str:
    text = text_of(value)
    # What a selector could not say, or a person not see.
    if len(text) > 63 or not text.isprintable() or set(text) & set(",=!*") or text != text.strip():
        raise refuse(
            f"{shown(text)} cannot be a label's value", "at most 63 characters, none of them , = ! or *"
        )
    return text


def _metric_label(value: object) -> str:
    text = text_of(value)
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]*", text) or len(text) > 63:
        raise refuse(
            f"{shown(text)} cannot be a Prometheus label", "use letters, digits and _, a letter first"
        )
    if text in ("board", "transport", "implementation", "version", "platform"):
        raise refuse(f"belayd_board_info has a label {text} of its own", "name another label of the boards")
    return text


def _address(value: object) -> str:
    text = text_of(value)
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", text)
    if match is None:
        raise refuse(f"{shown(text)} is not HOST:PORT", "write for example localhost:50951 or [::1]:50951")
    port_in_range(int(match[2]))
    return text


def port_in_range(port: int) -> None:
    """Refuse 0, which would be another port after each start, and what is no port at all."""
    if port == 0:
        raise refuse("port 0 means any free port, and nobody could find it again", "name one from 1 to 65535")
    if port > 65_535:
        raise refuse(f"there is no port {port}", "ports go from 1 to 65535")


def _variable(value: object) -> str:
    text = text_of(value)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        # Not shown: it may be the password itself.
        raise refuse("is not an environment variable's name", "write for example password_env: ROOF_PASSWORD")
    return text


def _path(value: object) -> Path:
    text = text_of(value)
    if "\0" in text:
        raise refuse(f"{shown(text)} is not a path")
    return Path(text)


def split_url(text: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    """Return the parts of a URL of one of `schemes`, with a host and nothing but a port and a path."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        # Its text stays out: an unreadable URL may still hold a password.
        raise refuse("is not a URL", f"write {example}") from None
    if "@" in url.netloc:
        raise refuse("has a user or a password in its URL", f"write {example}, and the password beside it")
    if url.scheme not in schemes:
        raise refuse(f"is not a {' or '.join(f'{scheme}://' for scheme in schemes)} URL", f"write {example}")
    if not url.hostname or not re.fullmatch(r"[A-Za-z0-9._:-]+", url.hostname):
        raise refuse("has no valid host in its URL", f"write {example}")
    if url.query or url.fragment or any(c.isspace() for c in text):
        raise refuse("has more in its URL than host and port", f"write {example}")
    if port is not None:
        port_in_range(port)
    return url


def _webrepl_url(value: object) -> str:
    url = split_url(text_of(value), ("ws", "wss"), "ws://10.0.0.7:8266")
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return f"{url.scheme}://{host}:{url.port or _WEBREPL_PORT}{url.path}"


def _tcp_url(value: object) -> str:
    text = text_of(value)
    url = split_url(text, ("socket", "rfc2217"), "socket://10.0.0.9:4000")
    if url.port is None or url.path not in ("", "/"):
        raise refuse("needs a host and a port in its URL, and no path", "write socket://10.0.0.9:4000")
    return text.removesuffix("/")


def _scalar(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema({**WRITTEN_AS_TEXT, **schema})


Text = Annotated[str, PlainValidator(text_of), _scalar()]
Boolean = Annotated[bool, PlainValidator(_boolean), WithJsonSchema({"type": "boolean"})]
Baudrate = Annotated[
    int,
    PlainValidator(_baudrate),
    WithJsonSchema({"type": "integer", "minimum": 300, "not": {"const": 1200}}),
]
Count = Annotated[
    int, PlainValidator(_count), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 1000})
]
HeapKib = Annotated[int, PlainValidator(_heap), WithJsonSchema({"type": "integer", "minimum": 32})]
FlashKib = Annotated[int, PlainValidator(_flash), WithJsonSchema({"type": "integer", "minimum": 32})]
Duration = Annotated[
    float, PlainValidator(_duration), WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"})
]
UsbNumber = Annotated[int, PlainValidator(_usb_number), _scalar(pattern="^(0[xX])?[0-9a-fA-F]{1,4}$")]
UsbLocation = Annotated[str, PlainValidator(_usb_location), _scalar(pattern="^[^/]")]
UniqueId = Annotated[str, PlainValidator(_unique_id), _scalar(pattern="^([0-9a-fA-F]{2}){2,32}$")]
BoardName = Annotated[
    str, PlainValidator(_board_name), WithJsonSchema({"type": "string", "pattern": f"^{BOARD_NAME.pattern}$"})
]
LabelName = Annotated[
    str, PlainValidator(_label_name), WithJsonSchema({"type": "string", "pattern": f"^{LABEL_NAME.pattern}$"})
]
LabelValue = Annotated[str, PlainValidator(_label_value), _scalar(pattern="^[^,=!*]{1,63}$")]
MetricLabel = Annotated[str, PlainValidator(_metric_label), WithJsonSchema({"type": "string"})]
Address = Annotated[
    str, PlainValidator(_address), WithJsonSchema({"type": "string", "pattern": ":[0-9]{1,5}$"})
]
Variable = Annotated[str, PlainValidator(_variable), WithJsonSchema({"type": "string"})]
FilePath = Annotated[Path, PlainValidator(_path), WithJsonSchema({"type": "string"})]
WebreplUrl = Annotated[
    str, PlainValidator(_webrepl_url), WithJsonSchema({"type": "string", "pattern": "^wss?://"})
]
TcpUrl = Annotated[
    str, PlainValidator(_tcp_url), WithJsonSchema({"type": "string", "pattern": "^(socket|rfc2217)://"})
]
