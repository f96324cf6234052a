"""belayd's client: the boards of a lab from Python.

`Device` is one board as Belay's programs know it; `Client` is everything else.
Names are imported when first used, so that the command line starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from belayd_client.board import (
        Board,
        BoardFacts,
        BoardsChange,
        BoardState,
        Daemon,
        LeaseRecord,
        LeaseSummary,
    )
    from belayd_client.client import Client
    from belayd_client.console import Console
    from belayd_client.deployment import DeploymentPlan, DeploymentProgress, DeploymentSummary
    from belayd_client.device import Device, PyboardException
    from belayd_client.errors import (
        BelaydError,
        BoardException,
        BoardLeased,
        BoardUnavailable,
        ConnectionFailed,
        ConnectionLost,
        Exhausted,
        InternalError,
        LeaseLost,
        LeaseNotFound,
        LeaseRequired,
        NotFound,
        OperatorNeeded,
        PreparationFailed,
        Refused,
        RequestInvalid,
        RunCancelled,
        RunTimeout,
        TransportLost,
        Unsupported,
    )
    from belayd_client.history import AuditEvent, AuditVerdict, Event
    from belayd_client.lease import Lease
    from belayd_client.rollback import Deployment, DeploymentOutcome, Drift
    from belayd_client.rollouts import (
        HealthCheck,
        Rollout,
        RolloutBoard,
        RolloutPace,
        RolloutState,
        RolloutStep,
        RolloutTree,
    )
    from belayd_client.runs import Run, RunState

__all__ = [
    "AuditEvent",
    "AuditVerdict",
    "BelaydError",
    "Board",
    "BoardException",
    "BoardFacts",
    "BoardLeased",
    "BoardState",
    "BoardUnavailable",
    "BoardsChange",
    "Client",
    "ConnectionFailed",
    "ConnectionLost",
    "Console",
    "Daemon",
    "Deployment",
    "DeploymentOutcome",
    "DeploymentPlan",
    "DeploymentProgress",
    "DeploymentSummary",
    "Device",
    "Drift",
    "Event",
    "Exhausted",
    "HealthCheck",
    "InternalError",
    "Lease",
    "LeaseLost",
    "LeaseNotFound",
    "LeaseRecord",
    "LeaseRequired",
    "LeaseSummary",
    "NotFound",
    "OperatorNeeded",
    "PreparationFailed",
    "PyboardException",
    "Refused",
    "RequestInvalid",
    "Rollout",
    "RolloutBoard",
    "RolloutPace",
    "RolloutState",
    "RolloutStep",
    "RolloutTree",
    "Run",
    "RunCancelled",
    "RunState",
    "RunTimeout",
    "TransportLost",
    "Unsupported",
]

_ELSEWHERE = {
    "AuditEvent": "history",
    "AuditVerdict": "history",
    "Board": "board",
    "BoardFacts": "board",
    "BoardState": "board",
    "BoardsChange": "board",
    "Client": "client",
    "Console": "console",
    "Daemon": "board",
    "Deployment": "rollback",
    "DeploymentOutcome": "rollback",
    "DeploymentPlan": "deployment",
    "DeploymentProgress": "deployment",
    "DeploymentSummary": "deployment",
    "Device": "device",
    "Drift": "rollback",
    "Event": "history",
    "HealthCheck": "rollouts",
    "Lease": "lease",
    "LeaseRecord": "board",
    "LeaseSummary": "board",
    "PyboardException": "device",
    "Rollout": "rollouts",
    "RolloutBoard": "rollouts",
    "RolloutPace": "rollouts",
    "RolloutState": "rollouts",
    "RolloutStep": "rollouts",
    "RolloutTree": "rollouts",
    "Run": "runs",
    "RunState": "runs",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_ELSEWHERE.get(name, 'errors')}")
    return getattr(module, name)
