"""Values as messages: Python values to `belayd.v1.Value` and back.

Both ends use it, the daemon and the Python client. Types are exact in both
directions; what does not fit is named by its path. Both directions are bounded
by MAX_DEPTH, so that a message nested in an RPC's own stays within the 100
levels that protobuf reads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from belayd.v1 import values_pb2
from belayd.values import MAX_DEPTH, Misfit, Repr, digits_from_int, int_from_digits, key_step


def to_value(value: object, name: str = "value") -> values_pb2.Value:
    """Return the message for a Python value or a Repr; `name` stands for it in error messages.

    Raises:
        TypeError: The value or one in it has no typed form; its path and type are named.
        ValueError: It is out of bounds: nested deeper than MAX_DEPTH, an int of more than
            MAX_DIGITS, half a surrogate pair, a range beyond 64 bits.
    """
    message = values_pb2.Value()
    try:
        _fill(message, value, 0)
    except Misfit as misfit:
        raise misfit.error(name) from None
    return message


def from_value(message: values_pb2.Value, name: str = "value") -> object:
    """Return the Python value or Repr of a message; `name` stands for it in error messages.

    Raises:
        ValueError: Something in it is not set or out of bounds, a key cannot be hashed, or a
            dict or set has the same item twice.
    """
    try:
        return _read(message, 0)
    except Misfit as misfit:
        raise misfit.error(name) from None


def _fill(message: values_pb2.Value, value: object, depth: int) -> None:
    fill = _FILLERS.get(type(value))
    if fill is not None:
        try:
            fill(message, value)
        except ValueError as error:
            raise Misfit(ValueError(str(error))) from None
    elif type(value) not in _CONTAINERS:
        raise Misfit(TypeError(f"a value of type {type(value).__name__!r} has no typed form"))
    elif depth == MAX_DEPTH:
        raise Misfit(ValueError(f"nested deeper than {MAX_DEPTH} containers"))
    elif isinstance(value, dict):
        _fill_pairs(message.dict, value, depth + 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        _fill_items(getattr(message, type(value).__name__), value, depth + 1)


def _fill_items(sequence: values_pb2.Sequence, items: Collection[object], depth: int) -> None:
    sequence.SetInParent()  # else an empty one would be no value at all
    add = sequence.items.add
    for index, item in enumerate(items):
        try:
            _fill(add(), item, depth)
        except Misfit as misfit:
            raise misfit.within(f"[{index}]") from None


def _fill_pairs(mapping: values_pb2.Mapping, items: dict[object, object], depth: int) -> None:
    mapping.SetInParent()
    for key, value in items.items():
        item = mapping.items.add()
        try:
            _fill(item.key, key, depth)
            _fill(item.value, value, depth)
        except Misfit as misfit:
            raise misfit.within(key_step(key)) from None


def _fill_bool(message: values_pb2.Value, value: Any) -> None:
    message.bool = value


def _fill_int(message: values_pb2.Value, value: Any) -> None:
    if -(2**63) <= value < 2**63:
        message.int = value
    else:
        message.bigint = digits_from_int(value)


def _fill_float(message: values_pb2.Value, value: Any) -> None:
    message.float = value


def _fill_str(message: values_pb2.Value, value: Any) -> None:
    message.str = value


def _fill_bytes(message: values_pb2.Value, value: Any) -> None:
    message.bytes = value


def _fill_bytearray(message: values_pb2.Value, value: Any) -> None:
    message.bytearray = bytes(value)


def _fill_none(message: values_pb2.Value, value: Any) -> None:
    message.none.SetInParent()


def _fill_complex(message: values_pb2.Value, value: Any) -> None:
    message.complex.SetInParent()
    message.complex.real = value.real
    message.complex.imaginary = value.imag


def _fill_range(message: values_pb2.Value, value: Any) -> None:
    message.range.start, message.range.stop, message.range.step = value.start, value.stop, value.step


def _fill_repr(message: values_pb2.Value, value: Any) -> None:
    message.repr.type_name = _printable(value.type_name)
    message.repr.text = _printable(value.text)


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


_FILLERS: dict[type, Callable[[values_pb2.Value, Any], None]] = {
    type(None): _fill_none,
    bool: _fill_bool,
    int: _fill_int,
    float: _fill_float,
    str: _fill_str,
    bytes: _fill_bytes,
    bytearray: _fill_bytearray,
    complex: _fill_complex,
    range: _fill_range,
    Repr: _fill_repr,
}
_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})


def _read(message: values_pb2.Value, depth: int) -> object:
    kind = message.WhichOneof("kind")
    if kind in _AS_IS:
        return getattr(message, kind)
    if kind is None:
        raise Misfit(ValueError("no kind of value is set"))
    if kind not in _SHAPES and kind != "dict":
        try:
            return _READERS[kind](message)
        except ValueError as error:
            raise Misfit(error) from None
    if depth == MAX_DEPTH:
        raise Misfit(ValueError(f"nested deeper than {MAX_DEPTH} containers"))
    if kind == "dict":
        return _read_pairs(message.dict.items, depth + 1)
    items = _read_items(getattr(message, kind).items, depth + 1)
    return items if kind == "list" else _shape(_SHAPES[kind], items)


def _read_items(messages: Iterable[values_pb2.Value], depth: int) -> list[object]:
    items: list[object] = []
    for message in messages:
        try:
            items.append(_read(message, depth))
        except Misfit as misfit:
            raise misfit.within(f"[{len(items)}]") from None
    return items


def _read_pairs(messages: Iterable[values_pb2.MappingItem], depth: int) -> dict[object, object]:
    items: dict[object, object] = {}
    for index, message in enumerate(messages):
        try:
            key = _read(message.key, depth)
        except Misfit as misfit:
            raise misfit.within(f" key {index}") from None
        try:
            if key in items:
                raise Misfit(ValueError("the same key twice"))
            items[key] = _read(message.value, depth)
        except TypeError:
            raise Misfit(ValueError(f"a key of type {type(key).__name__!r} cannot be hashed")) from None
        except Misfit as misfit:
            raise misfit.within(key_step(key)) from None
    return items


def _shape(shape: Callable[[list[object]], Collection[object]], items: list[object]) -> object:
    try:
        shaped = shape(items)
    except TypeError:
        raise Misfit(ValueError("an item of a set that cannot be hashed")) from None
    if len(shaped) != len(items):
        raise Misfit(ValueError("the same item twice in a set"))
    return shaped


_AS_IS = frozenset({"bool", "int", "float", "str", "bytes"})
_SHAPES: dict[str, Callable[[list[object]], Collection[object]]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}
_READERS: dict[str, Callable[[values_pb2.Value], object]] = {
    "none": lambda message: None,
    "bigint": lambda message: int_from_digits(message.bigint),
    "bytearray": lambda message: bytearray(message.bytearray),
    "range": lambda message: range(message.range.start, message.range.stop, message.range.step),
    "complex": lambda message: complex(message.complex.real, message.complex.imaginary),
    "repr": lambda message: Repr(message.repr.type_name, message.repr.text),
}
