"""Values as messages, through the bytes that travel."""

from __future__ import annotations

import enum
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belayd.v1 import values_pb2
from belayd.values import MAX_DEPTH, MAX_DIGITS, Repr, parse
from belayd.wire import from_value, to_value

text = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | text | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
words = st.integers(-(2**63), 2**63 - 1)
values = st.recursive(
    keys
    | st.binary().map(bytearray)
    | st.builds(range, words, words, words.filter(bool))
    | st.builds(Repr, text, text),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(keys, inner, max_size=5)
        | st.sets(keys, max_size=5)
    ),
    max_leaves=20,
)


def canonical(value: object) -> str:
    """A text that is equal for equal values of equal types in equal order, nan and -0.0 told apart."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return f"{kind}{[(canonical(k), canonical(v)) for k, v in value.items()]}"
    if isinstance(value, set | frozenset):
        return f"{kind}{sorted(map(canonical, value))}"
    if isinstance(value, list | tuple):
        return f"{kind}{[*map(canonical, value)]}"
    return f"{kind} {hex(value) if type(value) is int else repr(value)}"


def travel(message: values_pb2.Value) -> values_pb2.Value:
    return values_pb2.Value.FromString(message.SerializeToString())


@given(values)
def test_a_value_arrives_as_it_was_sent(value: object) -> None:
    assert canonical(from_value(travel(to_value(value)))) == canonical(value)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "none"),
        (False, "bool"),
        (0, "int"),
        (2**63 - 1, "int"),
        (-(2**63), "int"),
        (2**63, "bigint"),
        (10**MAX_DIGITS - 1, "bigint"),
        (0.0, "float"),
        (math.nan, "float"),
        ("", "str"),
        (b"", "bytes"),
        ([], "list"),
        ((), "tuple"),
        ({}, "dict"),
        (set(), "set"),
        (frozenset(), "frozenset"),
        (bytearray(), "bytearray"),
        (range(0), "range"),
        (0j, "complex"),
        (Repr("", ""), "repr"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_type_has_its_kind_also_when_empty(value: object, kind: str) -> None:
    message = travel(to_value(value))

    assert message.WhichOneof("kind") == kind
    assert canonical(from_value(message)) == canonical(value)


def test_a_list_of_the_deepest_dicts_fits_into_a_message_within_messages() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = {1: value}
    item = values_pb2.MappingItem(value=to_value(value))
    wrapped = values_pb2.Mapping(
        items=[values_pb2.MappingItem(value=values_pb2.Value(dict={"items": [item]}))]
    )

    arrived = values_pb2.Mapping.FromString(wrapped.SerializeToString())

    assert from_value(arrived.items[0].value.dict.items[0].value) == value


def test_what_is_nested_deeper_is_refused_in_both_directions() -> None:
    value: object = [()]
    message = to_value([()])
    for _ in range(MAX_DEPTH - 1):
        value = [value]
        message = values_pb2.Value(list=values_pb2.Sequence(items=[message]))

    with pytest.raises(ValueError, match=r"^argument\[0\].*: nested deeper than 30 containers"):
        to_value(value, "argument")
    with pytest.raises(ValueError, match=r"^argument\[0\].*: nested deeper than 30 containers"):
        from_value(message, "argument")


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (Colour.RED, TypeError, "keywords['x']: a value of type 'Colour' has no typed form"),
        ([1, {"a": (object(),)}], TypeError, "keywords['x'][1]['a'][0]: a value of type 'object' has no"),
        ({Colour.RED: 1}, TypeError, "keywords['x'][<Colour key>]: a value of type 'Colour'"),
        (["\ud800"], ValueError, "keywords['x'][0]: 'utf-8' codec can't encode"),
        ((range(2**63),), ValueError, "keywords['x'][0]: "),
        (10**MAX_DIGITS, ValueError, "keywords['x']: an int of more than 20000 decimal digits"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_sent_is_named_by_its_path(
    value: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as refused:
        to_value(value, "keywords['x']")
    assert str(refused.value).startswith(message)


def sequence(*items: object) -> values_pb2.Sequence:
    return values_pb2.Sequence(items=map(to_value, items))


def mapping(*items: tuple[object, object]) -> values_pb2.Mapping:
    return values_pb2.Mapping(
        items=[values_pb2.MappingItem(key=to_value(key), value=to_value(value)) for key, value in items]
    )


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (values_pb2.Value(), "value: no kind of value is set"),
        (values_pb2.Value(list={"items": [to_value(1), {}]}), "value[1]: no kind of value is set"),
        (values_pb2.Value(dict={"items": [{"key": {"int": 1}}]}), "value[1]: no kind of value is set"),
        (values_pb2.Value(dict={"items": [{"value": {"int": 1}}]}), "value key 0: no kind of value is set"),
        (values_pb2.Value(dict=mapping(([], 1))), "value: a key of type 'list' cannot be hashed"),
        (values_pb2.Value(dict=mapping((1, 1), (True, 2))), "value[True]: the same key twice"),
        (values_pb2.Value(set=sequence([])), "value: an item of a set that cannot be hashed"),
        (values_pb2.Value(frozenset=sequence(1, 1.0)), "value: the same item twice in a set"),
        (values_pb2.Value(bigint="1_0"), "value: not an int"),
        (
            values_pb2.Value(bigint="1" * (MAX_DIGITS + 1)),
            "value: not an int of at most 20000 decimal digits",
        ),
        (values_pb2.Value(range=values_pb2.Range(stop=1)), "value: range() arg 3 must not be zero"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_message_that_is_no_value_is_refused(message: values_pb2.Value, error: str) -> None:
    with pytest.raises(ValueError) as refused:
        from_value(message)
    assert str(refused.value).startswith(error)


def test_a_bigint_that_fits_64_bits_is_an_int_like_any_other() -> None:
    assert from_value(values_pb2.Value(bigint="-5")) == -5


def test_a_repr_travels_also_if_its_text_is_no_unicode() -> None:
    assert from_value(travel(to_value(Repr("Pin", "<\udc80>")))) == Repr("Pin", "<\\udc80>")


@pytest.mark.parametrize(
    "printed",
    ["[" * MAX_DEPTH + "]" * MAX_DEPTH, "9" * MAX_DIGITS, f"range(0, {2**63 - 1})", r"'\ud7ff\U0010ffff'"],
    ids=["depth", "digits", "range", "text"],
)
def test_whatever_is_read_from_a_board_can_be_sent(printed: str) -> None:
    value = parse(printed)

    assert from_value(travel(to_value(value))) == value
