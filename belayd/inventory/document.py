"""YAML text as nodes that know their lines, and as plain values made of text.

Scalars stay the text that was written: `0012345` is no octal number, `no` no
boolean, `3:4` no sixtieths; the model decides what each place holds. Made from
the parser's events and not with `yaml.compose`, since libyaml's composer
recurses in C: `[` written 100,000 times kills the process (PyYAML 6.0.3).
Anchors, aliases and `<<` work; tags do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from belayd.inventory.problems import Findings, Path, shown

MAX_DEPTH = 32  # the deepest key of the inventory is at 5
MAX_VALUES = 200_000  # of a 4 MiB file, and of what its aliases expand to: 200 boards are 4,000

Value = str | None | list["Value"] | dict[str, "Value"]

_Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # the C one is 8 times as fast; not everywhere


@dataclass(slots=True)
class Scalar:
    """Text as written; `empty` where nothing is written at all, which is not `""`; `column` counts from 0."""

    line: int
    end_line: int
    column: int
    text: str
    empty: bool = False
    merge: bool = False


@dataclass(slots=True)
class Sequence:
    """A list; lines count from 1, `end_line` is the last that holds any of it."""

    line: int
    end_line: int
    items: list[Yaml] = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """Keys and values in the file's order, duplicates included; `flow` where written in braces."""

    line: int
    end_line: int
    flow: bool
    entries: list[tuple[Scalar, Yaml]] = field(default_factory=list)


Yaml = Scalar | Sequence | Mapping


def compose(text: str, findings: Findings) -> Yaml | None:
    """Return the document's root, or None if it has none or is not YAML, which is then noted."""
    events = _events(text, findings)
    try:
        return _Composer(events, findings).document()
    except _Unusable as error:
        findings.add(error.line, (), str(error), error.suggestion)
        return None


class _Unusable(Exception):
    def __init__(self, line: int, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.suggestion = suggestion


def _events(text: str, findings: Findings) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        context = f" {error.context}" if error.context else ""
        message = f"is not YAML: {error.problem or 'syntax error'}{context}"
        raise _Unusable(line, message, _yaml_advice(text, line)) from error
    except yaml.reader.ReaderError as error:
        position = error.position if isinstance(error.position, int) else 0
        line = text.count("\n", 0, position) + 1
        raise _Unusable(line, "is not YAML: it holds a control character") from error


def _yaml_advice(text: str, line: int) -> str:
    lines = text.splitlines()
    written = lines[line - 1] if line <= len(lines) else ""
    indent = written[: len(written) - len(written.lstrip())]
    if "\t" in indent:
        return "indent with spaces, not tabs"
    if written.count(": ") > 1 and '"' not in written:
        return 'put quotes around a value that holds ": "'
    return "look at the line above too: a bracket, a quote or the indentation is off"


class _Composer:
    """Reads straight down; recursion is bounded by MAX_DEPTH."""

    def __init__(self, events: Iterator[yaml.Event], findings: Findings) -> None:
        self._events = events
        self._findings = findings
        self._anchors: dict[str, Yaml] = {}
        self._count = 0

    def document(self) -> Yaml | None:
        root: Yaml | None = None
        for event in self._events:
            match event:
                case yaml.DocumentStartEvent():
                    if root is not None:
                        raise _Unusable(
                            _line(event), "a second document starts here", "remove the line `---`"
                        )
                    root = self._read(next(self._events), 0)
                case _:
                    pass
        return root

    def _read(self, event: yaml.Event, depth: int) -> Yaml:
        self._count += 1
        if depth > MAX_DEPTH:
            raise _Unusable(_line(event), f"is nested more than {MAX_DEPTH} deep")
        if self._count > MAX_VALUES:
            raise _Unusable(_line(event), f"holds more than {MAX_VALUES} values")
        match event:
            case yaml.AliasEvent():
                return self._alias(event)
            case yaml.ScalarEvent():
                node: Yaml = _scalar(event)
            case yaml.SequenceStartEvent():
                node = self._sequence(event, depth)
            case yaml.MappingStartEvent():
                node = self._mapping(event, depth)
            case _:
                raise _Unusable(_line(event), "is not YAML")
        if event.tag is not None and event.tag != "!":
            self._findings.add(
                node.line,
                (),
                f"the tag {shown(event.tag)} has no meaning here",
                "leave it out: values are taken as written",
            )
        # Known only from here on, so that nothing can contain itself.
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent) -> Yaml:
        anchor = event.anchor or ""
        node = self._anchors.get(anchor)
        if node is None:
            raise _Unusable(
                _line(event),
                f"the alias *{shown(anchor)} has no anchor before it",
                f"write &{shown(anchor)} where it is defined",
            )
        return node

    def _sequence(self, event: yaml.SequenceStartEvent, depth: int) -> Sequence:
        node = Sequence(_line(event), _line(event))
        while not isinstance(following := next(self._events), yaml.SequenceEndEvent):
            node.items.append(self._read(following, depth + 1))
            node.end_line = max(node.end_line, _last_line(following, node.items[-1]))
        if event.flow_style:
            node.end_line = _end_line(following)
        return node

    def _mapping(self, event: yaml.MappingStartEvent, depth: int) -> Mapping:
        node = Mapping(
            _line(event),
            _line(event),
            bool(event.flow_style),
        )
        while not isinstance(following := next(self._events), yaml.MappingEndEvent):
            key = self._read(following, depth + 1)
            if not isinstance(key, Scalar):
                raise _Unusable(
                    _line(following),
                    "a key must be text",
                    'put quotes around a value that starts with "{" or "["',
                )
            following = next(self._events)
            value = self._read(following, depth + 1)
            node.entries.append((key, value))
            node.end_line = max(key.end_line, _last_line(following, value))
        if event.flow_style:
            node.end_line = _end_line(following)
        return node


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return mark.line + 1 if mark else 1


def _end_line(event: yaml.Event) -> int:
    mark = event.end_mark
    if mark is None:
        return _line(event)
    # A block scalar, and nothing else, ends where the next line starts.
    return mark.line + 1 if mark.column > 0 else max(mark.line, _line(event))


def _last_line(event: yaml.Event, node: Yaml) -> int:
    # An alias's node may stand far above; what counts is where the alias is.
    if isinstance(event, yaml.AliasEvent):
        return _line(event)
    # Nothing ends where the parser found the next thing, perhaps lines below.
    return 0 if isinstance(node, Scalar) and node.empty else node.end_line


def _scalar(event: yaml.ScalarEvent) -> Scalar:
    plain = event.style is None or event.style == ""
    return Scalar(
        _line(event),
        _end_line(event),
        event.start_mark.column if event.start_mark else 0,
        event.value,
        empty=plain and not event.value,
        merge=plain and event.value == "<<",
    )


@dataclass(slots=True)
class Document:
    """A document's plain value, and the line of each key and item by its path."""

    value: Value
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """Return the line of `path`, or of the nearest part of it that was written."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def to_document(root: Yaml, findings: Findings) -> Document:
    """Make plain values of nodes; notes duplicate keys, of which the first counts."""
    reader = _Reader(findings)
    try:
        return Document(reader.value(root, ()), reader.lines)
    except _Unusable as error:
        findings.add(error.line, (), str(error))
        return Document(None, reader.lines)


class _Reader:
    def __init__(self, findings: Findings) -> None:
        self.lines: dict[Path, int] = {}
        self._findings = findings
        self._values = 0

    def value(self, node: Yaml, path: Path) -> Value:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _Unusable(node.line, f"its aliases expand to more than {MAX_VALUES} values")
        if len(path) > MAX_DEPTH:
            raise _Unusable(node.line, f"its aliases nest more than {MAX_DEPTH} deep")
        match node:
            case Scalar():
                return None if node.empty else node.text
            case Sequence():
                return self._list(node, path)
            case Mapping():
                return self._dict(node, path)

    def _list(self, node: Sequence, path: Path) -> list[Value]:
        values: list[Value] = []
        for index, item in enumerate(node.items):
            self.lines[(*path, index)] = item.line
            values.append(self.value(item, (*path, index)))
        return values

    def _dict(self, node: Mapping, path: Path) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for key, item in node.entries:
            if key.merge:
                continue
            inner = (*path, key.text)
            if key.text in values:
                self._findings.add(
                    key.line,
                    inner,
                    f"is written twice, first in line {self.lines[inner]}",
                    "keep one of them",
                )
                continue
            self.lines[inner] = key.line
            values[key.text] = self.value(item, inner)
        for key, item in node.entries:
            if key.merge:
                self._merge(values, key, item, path)
        return values

    def _merge(self, values: dict[str, Value], key: Scalar, item: Yaml, path: Path) -> None:
        # YAML 1.1 "<<": what is written beside it wins, earlier mappings of a list win over later ones.
        for source in item.items if isinstance(item, Sequence) else [item]:
            if not isinstance(source, Mapping):
                self._findings.add(key.line, (*path, "<<"), "merges mappings only", "write `<<: *ANCHOR`")
                continue
            written = set(values)
            merged = Mapping(
                source.line,
                source.end_line,
                source.flow,
                [entry for entry in source.entries if entry[0].text not in written],
            )
            values.update(self._dict(merged, path))
