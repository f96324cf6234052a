"""The inventory's grammar: which keys stand where, and of what type each value is.

pydantic checks each value and finds all mistakes at once; `explaining` words
them. Rules between keys are in `rules`. The same classes give the JSON Schema
that editors complete and check with. Examples of fields are what suggestions
show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from belayd.inventory.problems import shown, suggest
from belayd.inventory.scalars import (
    Address,
    Baudrate,
    BoardName,
    Boolean,
    Count,
    Duration,
    FilePath,
    FlashKib,
    HeapKib,
    LabelName,
    LabelValue,
    MetricLabel,
    TcpUrl,
    Text,
    UniqueId,
    UsbLocation,
    UsbNumber,
    Variable,
    WebreplUrl,
    kind_of,
    refuse,
    text_of,
)


class Section(BaseModel):
    """A mapping of the inventory: known keys only."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _nothing_as_mapping(value: object) -> object:
    return {} if value is None else value


def _nothing_as_list(value: object) -> object:
    return [] if value is None else value


def _refuse_nothing(value: object) -> object:
    if value is None:
        raise refuse("has no value")
    return value


# A key that may be left out must not stand there empty.
_Written = BeforeValidator(_refuse_nothing)
# `boards:` with nothing under it is an empty mapping, not an error.
_Optional = BeforeValidator(_nothing_as_mapping)
Labels = Annotated[dict[LabelName, LabelValue], _Optional]
Line = Annotated[Boolean | None, _Written]
_DTR = "The line while the port is open; left out, as the USB chip's family wants it"
_RTS = "Likewise"
_HUPCL = "Whether DTR and RTS fall when the port is closed; left out, likewise"
_LOW_LATENCY = "Ask the driver not to hold short answers back (FTDI: 1 ms instead of 16)"


class UsbModel(Section):
    """A board found by its USB identity; several keys must all match."""

    vid: Annotated[UsbNumber | None, _Written] = Field(
        default=None, description="Vendor id, hexadecimal", examples=["2e8a"]
    )
    pid: Annotated[UsbNumber | None, _Written] = Field(
        default=None, description="Product id, hexadecimal", examples=["0005"]
    )
    serial_number: Annotated[Text | None, _Written] = Field(default=None, examples=["e6614c311b7e6f35"])
    manufacturer: Annotated[Text | None, _Written] = Field(default=None, examples=["MicroPython"])
    product: Annotated[Text | None, _Written] = Field(default=None, examples=["Board in FS mode"])
    location: Annotated[UsbLocation | None, _Written] = Field(
        default=None, description="Stable USB path", examples=["1-1.4"]
    )
    baudrate: Baudrate = Field(default=115_200, examples=[115_200])
    dtr: Line = Field(default=None, description=_DTR, examples=["true"])
    rts: Line = Field(default=None, description=_RTS, examples=["true"])
    hupcl: Line = Field(default=None, description=_HUPCL, examples=["false"])
    low_latency: Boolean = Field(default=True, description=_LOW_LATENCY, examples=["true"])


class SerialModel(Section):
    """A board on a serial port or pty with a fixed path."""

    port: FilePath = Field(examples=["/dev/serial/by-id/usb-..."])
    baudrate: Baudrate = Field(default=115_200, examples=[115_200])
    dtr: Line = Field(default=None, description=_DTR, examples=["true"])
    rts: Line = Field(default=None, description=_RTS, examples=["true"])
    hupcl: Line = Field(default=None, description=_HUPCL, examples=["false"])
    low_latency: Boolean = Field(default=True, description=_LOW_LATENCY, examples=["true"])


class WebreplModel(Section):
    """A board's WebREPL; the password is named, never written here."""

    url: WebreplUrl = Field(examples=["ws://10.0.0.7:8266"])
    password_env: Annotated[Variable | None, _Written] = Field(
        default=None, description="Environment variable", examples=["ROOF_PASSWORD"]
    )
    password_file: Annotated[FilePath | None, _Written] = Field(default=None, examples=["roof.password"])


class TcpModel(Section):
    """A serial port that another host serves."""

    url: TcpUrl = Field(examples=["socket://10.0.0.9:4000"])


class SimulatedModel(Section):
    """A real MicroPython in a child process."""

    micropython: Annotated[FilePath | None, _Written] = Field(
        default=None, description="The interpreter", examples=["/usr/bin/micropython"]
    )
    folder: Annotated[FilePath | None, _Written] = Field(
        default=None, description="Holds the board's files", examples=["boards/sim-1"]
    )
    heap: HeapKib = Field(default=512, description="KiB", examples=[512])
    flash: Annotated[FlashKib | None, _Written] = Field(
        default=None, description="KiB of a LittleFS image", examples=[1024]
    )


class PowerModel(Section):
    """Commands for the board's power, as lists of arguments; no shell."""

    cycle: Annotated[tuple[str, ...], PlainValidator(lambda value: _arguments(value))] = Field(
        examples=['[uhubctl, -l, "1-1", -p, "3", -a, cycle]'],
        json_schema_extra={"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1},
    )
    timeout: Duration = Field(default=20.0, examples=["20s"])


def _arguments(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        written = ", ".join(f'"{part}"' for part in value.split())
        raise refuse(
            "is one text where a list of arguments belongs (no shell runs it)", f"write [{shown(written)}]"
        )
    if not isinstance(value, list) or not value:
        raise refuse(
            f"is {kind_of(value)} where a list of arguments belongs", "write [COMMAND, ARGUMENT, ...]"
        )
    for item in value:
        if not isinstance(item, str) or "\0" in item:
            raise refuse("holds an argument that is not text", "put quotes around each")
    return tuple(value)


def _word(value: object, permitted: tuple[str, ...]) -> str:
    text = text_of(value)
    if text not in permitted:
        raise refuse(f"{shown(text)} is not known here", suggest(text, permitted))
    return text


def _attach(value: object) -> str:
    return _word(value, ("interrupt", "passive"))


def _between(value: object) -> str | Path:
    if isinstance(value, dict):
        if list(value) != ["deploy"]:
            raise refuse("is a mapping with other keys than deploy", "write {deploy: FOLDER}")
        return Path(text_of(value["deploy"]))
    if value == "deploy":
        raise refuse("deploy needs a folder", "write {deploy: FOLDER}")
    return _word(value, ("soft_reset", "wipe"))


AttachWord = Annotated[
    Literal["interrupt", "passive"],
    PlainValidator(_attach),
    WithJsonSchema({"enum": ["interrupt", "passive"]}),
]
BetweenWord = Annotated[
    str | Path,
    PlainValidator(_between),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["soft_reset", "wipe"]},
                {
                    "type": "object",
                    "properties": {"deploy": {"type": "string"}},
                    "required": ["deploy"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class BoardModel(Section):
    """One board: exactly one link, and what else is known of it."""

    usb: Annotated[UsbModel | None, _Optional] = Field(
        default=None, examples=['{serial_number: "e6614c311b7e6f35"}']
    )
    serial: Annotated[SerialModel | None, _Optional] = Field(
        default=None, examples=["{port: /dev/serial/by-id/...}"]
    )
    webrepl: Annotated[WebreplModel | None, _Optional] = Field(
        default=None, examples=['{url: "ws://10.0.0.7:8266", password_env: ROOF_PASSWORD}']
    )
    tcp: Annotated[TcpModel | None, _Optional] = Field(
        default=None, examples=['{url: "socket://10.0.0.9:4000"}']
    )
    simulated: Annotated[SimulatedModel | None, _Optional] = Field(default=None, examples=["{}"])
    labels: Labels = Field(default={}, examples=["{chip: rp2}"])
    unique_id: Annotated[UniqueId | None, _Written] = Field(default=None, examples=["e6614c311b7e6f35"])
    attach: AttachWord = Field(default="interrupt", examples=["interrupt"])
    between: Annotated[BetweenWord | None, _Written] = Field(default=None, examples=["soft_reset"])
    power: Annotated[PowerModel | None, _Optional] = Field(
        default=None, examples=["{cycle: [uhubctl, -a, cycle]}"]
    )

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [kind]} for kind in ("usb", "serial", "webrepl", "tcp", "simulated")]
        }
    )


class AdoptModel(Section):
    """Takes in boards that no entry lists."""

    usb: Annotated[UsbModel, _Optional] = Field(examples=["{vid: 2e8a}"])
    name: Text = Field(description="Template with USB attributes", examples=['"pico-{serial_number}"'])
    max: Count = Field(default=20, examples=[20])
    labels: Labels = Field(default={}, examples=["{chip: rp2}"])
    attach: AttachWord = Field(default="interrupt", examples=["interrupt"])
    between: Annotated[BetweenWord | None, _Written] = Field(default=None, examples=["soft_reset"])


class TlsModel(Section):
    """Certificates, PEM."""

    cert: FilePath = Field(examples=["server.pem"])
    key: FilePath = Field(examples=["server.key"])
    client_ca: Annotated[FilePath | None, _Written] = Field(default=None, examples=["ca.pem"])


class LimitsModel(Section):
    """How long, and how many, boards may be held."""

    max_hold: Duration = Field(default=8 * 3600.0, examples=["8h"])
    idle: Duration = Field(default=30 * 60.0, examples=["30m"])
    per_user: Annotated[Count | None, _Written] = Field(default=None, examples=[4])


class ServerModel(Section):
    """How the daemon serves; flags win."""

    listen: Address = Field(default="localhost:50951", examples=["localhost:50951"])
    metrics: Address = Field(default="localhost:9951", examples=["localhost:9951"])
    tls: Annotated[TlsModel | None, _Optional] = Field(
        default=None, examples=["{cert: server.pem, key: server.key}"]
    )
    limits: Annotated[LimitsModel, _Optional] = Field(
        default=LimitsModel(), examples=["{max_hold: 8h, idle: 30m}"]
    )
    metric_labels: Annotated[list[MetricLabel], BeforeValidator(_nothing_as_list)] = Field(
        default=[], examples=["[chip]"]
    )


class DefaultsModel(Section):
    """What holds for each board that does not say otherwise; labels are merged."""

    labels: Labels = Field(default={}, examples=["{lab: north}"])
    between: Annotated[BetweenWord | None, _Written] = Field(default=None, examples=["soft_reset"])


class EtcdModel(Section):
    """Where the hosts' common etcd answers."""

    endpoints: list[Address] = Field(examples=["[etcd-1:2379]"])


class ClusterModel(Section):
    """Other hosts; peers or etcd, not both."""

    peers: Annotated[list[Address], BeforeValidator(_nothing_as_list)] = Field(
        default=[], examples=["[bench-2:50951]"]
    )
    etcd: Annotated[EtcdModel | None, _Optional] = Field(
        default=None, examples=["{endpoints: [etcd-1:2379]}"]
    )


def _version(value: object) -> int:
    text = text_of(value)
    if text != "1":
        raise refuse(f"this belayd reads version 1, not {shown(text)}", "write version: 1")
    return 1


class InventoryModel(Section):
    """The boards of one host, and how its belayd serves them."""

    version: Annotated[int, PlainValidator(_version), WithJsonSchema({"const": 1})] = Field(examples=[1])
    server: Annotated[ServerModel, _Optional] = Field(
        default=ServerModel(), examples=["{listen: localhost:50951}"]
    )
    defaults: Annotated[DefaultsModel, _Optional] = Field(
        DefaultsModel(), examples=["{labels: {lab: north}}"]
    )
    boards: Annotated[dict[BoardName, BoardModel], _Optional] = Field(
        {}, examples=["{sim-1: {simulated: {}}}"]
    )
    adopt: Annotated[list[AdoptModel], BeforeValidator(_nothing_as_list)] = Field(
        default=[], examples=['[{usb: {vid: 2e8a}, name: "pico-{serial_number}"}]']
    )
    cluster: Annotated[ClusterModel | None, _Optional] = Field(default=None, examples=["{peers: []}"])


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of an inventory, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **InventoryModel.model_json_schema(),
        "title": "belayd inventory",
    }
