"""Which boards are meant: `chip=rp2,rack=2`, all terms of which must hold.

    key=value    the label is this, and `name=pico-1` the board of this name
    key!=value   the label is another, or missing
    key          the label is there, whatever it says
    !key         the label is not there

Empty means every board. No patterns: `*` is refused, since no label holds one.
Pure; clients send the text, and only the daemon reads it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from belayd.errors import RequestInvalid

NAME = "name"  # the key that means the board itself; the inventory permits no such label
MAX_CHARACTERS = 1024
_FORM = "write terms such as chip=rp2, rack!=2, wifi or !wifi, joined by commas"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class Operator(enum.Enum):
    """What a term says of its key."""

    EQUALS = "="
    DIFFERS = "!="
    PRESENT = ""
    ABSENT = "!"


@dataclass(frozen=True, slots=True)
class Term:
    """One condition; `value` is "" for PRESENT and ABSENT."""

    key: str
    operator: Operator
    value: str = ""

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Return whether a board fulfils it."""
        actual = name if self.key == NAME else labels.get(self.key)
        match self.operator:
            case Operator.EQUALS:
                return actual == self.value
            case Operator.DIFFERS:
                return actual != self.value
            case Operator.PRESENT:
                return actual is not None
            case Operator.ABSENT:
                return actual is None

    def __str__(self) -> str:
        if self.operator is Operator.ABSENT:
            return f"!{self.key}"
        return f"{self.key}{self.operator.value}{self.value}"


@dataclass(frozen=True, slots=True)
class Selector:
    """Terms that must all hold; its text is what `parse` reads back as the same."""

    terms: tuple[Term, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Read a selector; spaces around terms, keys and values do not count.

        Raises:
            RequestInvalid: It has no such form; the message says what is wrong and what the form is.
        """
        if len(text) > MAX_CHARACTERS:
            raise _invalid(text[:60] + "...", f"it is longer than {MAX_CHARACTERS} characters")
        if not text.strip():
            return cls()
        return cls(tuple(_parse_term(term.strip(), text) for term in text.split(",")))

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Return whether the board of this name and labels is meant."""
        return all(term.matches(name, labels) for term in self.terms)

    def __str__(self) -> str:
        return ",".join(str(term) for term in self.terms)


def _parse_term(term: str, text: str) -> Term:
    if not term:
        raise _invalid(text, "a term is empty")
    key, equals, value = term.partition("=")
    if not equals:
        operator = Operator.ABSENT if term.startswith("!") else Operator.PRESENT
        return Term(_check_key(term.removeprefix("!").strip(), text), operator)
    operator = Operator.DIFFERS if key.endswith("!") else Operator.EQUALS
    return Term(
        _check_key(key.removesuffix("!").strip(), text), operator, _check_value(value.strip(), term, text)
    )


def _check_key(key: str, text: str) -> str:
    if not _KEY.fullmatch(key):
        raise _invalid(text, f"{key!r} is not a label's name")
    return key


def _check_value(value: str, term: str, text: str) -> str:
    if value.startswith("="):
        raise _invalid(text, f"{term!r} has two equals signs, one is enough")
    if not value:
        raise _invalid(text, f"{term!r} has no value")
    if "*" in value:
        raise _invalid(text, f"{term!r} holds a pattern, and there are none")
    if set(value) & set("=!") or not value.isprintable():
        raise _invalid(text, f"{value!r} cannot be a label's value")
    return value


def _invalid(text: str, problem: str) -> RequestInvalid:
    return RequestInvalid(
        f"The selector {text!r} cannot be read: {problem}; {_FORM}.", field="selector", value=text
    )
