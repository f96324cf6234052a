"""pydantic's findings in the inventory's words: file, line, key, what is wrong, what to write instead."""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from belayd.inventory.document import Document
from belayd.inventory.model import InventoryModel
from belayd.inventory.problems import Findings, Path, nearest, suggest
from belayd.inventory.rules import means_password
from belayd.inventory.scalars import kind_of


def explain(error: ValidationError, document: Document, findings: Findings) -> None:
    """Note each finding of `error` at its line."""
    errors = error.errors(include_url=False)
    misspelt = {_meant(details["loc"]) for details in errors if details["type"] == "extra_forbidden"}
    for details in errors:
        path = tuple(part for part in details["loc"] if part != "[key]")
        # `versoin: 1` is one mistake, not an unknown key and a missing one.
        if details["type"] == "missing" and path in misspelt:
            continue
        message, suggestion = _words(details, path)
        findings.add(document.line(path), path, message, suggestion)


def _meant(path: Path) -> Path:
    model = _model_at(path[:-1])
    return (*path[:-1], nearest(str(path[-1]), model.model_fields)) if model else path


def _words(details: ErrorDetails, path: Path) -> tuple[str, str]:
    match details["type"]:
        case "inventory":
            context = details["ctx"]
            return str(context["message"]), str(context["suggestion"])
        case "extra_forbidden":
            return _unknown_key(path)
        case "missing":
            return "is missing", _example(path)
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"is {kind_of(details['input'])} where a mapping belongs", _example(path)
        case "list_type":
            return f"is {kind_of(details['input'])} where a list belongs", _example(path)
        case _:
            return details["msg"], _example(path)


def _unknown_key(path: Path) -> tuple[str, str]:
    word = str(path[-1])
    if path[-2:-1] == ("webrepl",) and means_password(word):
        # A misspelt or inline password alike: its value is shown nowhere.
        return (
            "a password is never written in the inventory",
            "write password_env: VARIABLE or password_file: FILE, and put it there",
        )
    model = _model_at(path[:-1])
    return "unknown key", suggest(word, model.model_fields) if model else ""


def _example(path: Path) -> str:
    field = _field_at(path)
    if field is None or not field.examples:
        return ""
    return f"write {path[-1]}: {field.examples[0]}"


def _field_at(path: Path) -> FieldInfo | None:
    model = _model_at(path[:-1])
    return model.model_fields.get(str(path[-1])) if model and path else None


def _model_at(path: Path) -> type[BaseModel] | None:
    """Return the model of the mapping at `path`: keys of dicts and places of lists are stepped over."""
    model: type[BaseModel] | None = InventoryModel
    inside = False
    for part in path:
        if inside:
            inside = False
            continue
        field = model.model_fields.get(str(part)) if model else None
        if field is None:
            return None
        model, inside = _inner_model(field.annotation)
    return None if inside else model


def _inner_model(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the model that an annotation holds, and whether as the values of a dict or list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in get_args(annotation):
        model, inside = _inner_model(argument)
        if model is not None:
            return model, inside or get_origin(annotation) in (dict, list)
    return None, False
