from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from belayd.inventory import LINK_KINDS, json_schema
from belayd.inventory import model as models
from belayd.inventory.problems import suggest


def sections() -> Iterator[type[BaseModel]]:
    for value in vars(models).values():
        if isinstance(value, type) and issubclass(value, models.Section) and value is not models.Section:
            yield value


def test_the_schema_is_json_and_knows_every_section() -> None:
    schema = json.loads(json.dumps(json_schema()))

    assert schema["title"] == "belayd inventory"
    assert set(schema["properties"]) == {"version", "server", "defaults", "boards", "adopt", "cluster"}
    assert set(schema["$defs"]["BoardModel"]["properties"]) >= set(LINK_KINDS)
    assert schema["$defs"]["BoardModel"]["additionalProperties"] is False


def test_the_schema_lets_editors_take_numbers_where_text_belongs() -> None:
    usb = json_schema()["$defs"]["UsbModel"]["properties"]

    assert usb["serial_number"]["anyOf"][0]["type"] == ["string", "number", "boolean"]


@pytest.mark.parametrize("section", list(sections()), ids=lambda section: section.__name__)
def test_every_key_has_an_example_for_suggestions(section: type[BaseModel]) -> None:
    assert [name for name, field in section.model_fields.items() if not field.examples] == []


@pytest.mark.parametrize("word", ["", "x" * 1000], ids=["empty", "long"])
def test_what_resembles_nothing_gets_the_whole_list(word: str) -> None:
    assert suggest(word, ["usb", "serial"]) == "permitted: usb, serial"


def test_specs_are_frozen() -> None:
    from belayd.inventory import specs

    classes = [
        value for value in vars(specs).values() if dataclasses.is_dataclass(value) and isinstance(value, type)
    ]

    assert len(classes) > 10
    assert [
        c.__name__ for c in classes if not c.__dataclass_params__.frozen or not hasattr(c, "__slots__")
    ] == []  # type: ignore[attr-defined]
