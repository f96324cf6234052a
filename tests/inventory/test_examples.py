from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from belayd.inventory import load

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "inventories"


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_the_example_is_a_right_inventory(name: str, tmp_path: Path) -> None:
    copy = tmp_path / name  # a checkout may be writable by a group or by all
    copy.write_bytes((FOLDER / name).read_bytes())
    shutil.copytree(FOLDER / "images", tmp_path / "images")

    inventory = load(copy)

    assert inventory.boards or inventory.adopt


def test_the_examples_show_every_kind_of_link() -> None:
    assert {"first.yaml", "lab.yaml", "simulated.yaml", "adopt.yaml"} <= {
        path.name for path in FOLDER.iterdir()
    }
    text = (FOLDER / "lab.yaml").read_text()
    assert [kind for kind in ("usb", "serial", "webrepl", "tcp", "simulated") if f"{kind}:" not in text] == []
