"""Regenerate belayd/v1 from proto/, or into another folder to compare.

Runs in a tool environment of its own (`proto/requirements.txt`): what
grpcio-tools 1.71 generates runs on every grpcio from 1.71 on, while the output
of a newer one refuses any older grpcio at import, which would force the
version on every teammate's client.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent
PACKAGE = Path("belayd/v1")


def generate(root: Path) -> None:
    """Write the generated package to `root`/belayd/v1, in place of what is there."""
    target = root / PACKAGE
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        fresh, former = Path(folder) / "fresh", Path(folder) / "former"
        _generate_into(fresh)
        # By renaming: whoever imports the package meanwhile finds the old one or the new one.
        if target.exists():
            target.rename(former)
        (fresh / PACKAGE).rename(target)


def _generate_into(root: Path) -> None:
    target = root / PACKAGE
    target.mkdir(parents=True)
    # protoc finds its mypy plugins on PATH; they stand beside this interpreter.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    (target / "__init__.py").write_text('"""Generated from proto/belayd/v1; never edited."""\n')
    sources = sorted(str(path.relative_to(PROTO)) for path in (PROTO / PACKAGE).glob("*.proto"))
    outputs = [f"--{kind}_out={root}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    include = str(resources.files("grpc_tools") / "_proto")
    status = protoc.main(["protoc", f"-I{PROTO}", f"-I{include}", *outputs, *sources])
    if status:
        raise SystemExit(f"protoc failed with status {status}")
    for stub in target.glob("*_pb2_grpc.py"):
        if b"Servicer" not in stub.read_bytes():  # a file without services gets empty stubs
            stub.unlink()
            stub.with_suffix(".pyi").unlink(missing_ok=True)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTO.parent)
