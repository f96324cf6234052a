"""What survives kill -9: leases, audit, runs, deployments and disabled boards, in one SQLite file.

leases     the seam to leasing, and what keeps leases in memory or in the database
audit      who did what; append-only, in a chain of hashes
runs       detached runs with their output
rollouts   rollouts and how far each of their boards is
disabled   boards that an operator took out of service
deployments  what boards had before each deployment, by hash
database   all of it, opened once a daemon
writer     one thread, commits together; reader: another, for queries
opening    one daemon a folder; a file that cannot be trusted is left alone
schema     the tables, as steps
"""

from belayd.store.audit import Audit, AuditLimits, AuditPage, AuditRecord
from belayd.store.chain import Verdict
from belayd.store.database import Store
from belayd.store.deployments import (
    FOLDER,
    Change,
    DeploymentOutcome,
    DeploymentRecord,
    Deployments,
    Entry,
)
from belayd.store.disabled import Disabled, DisabledBoard
from belayd.store.leases import LeaseRecord, LeaseStore, MemoryStore, StoredLeases
from belayd.store.opening import StoreUnusable
from belayd.store.rollouts import RolloutBoardRecord, RolloutLimits, RolloutRecord, Rollouts
from belayd.store.runs import Output, RunLimits, RunRecord, Runs, RunState

__all__ = [
    "FOLDER",
    "Audit",
    "AuditLimits",
    "AuditPage",
    "AuditRecord",
    "Change",
    "DeploymentOutcome",
    "DeploymentRecord",
    "Deployments",
    "Disabled",
    "DisabledBoard",
    "Entry",
    "LeaseRecord",
    "LeaseStore",
    "MemoryStore",
    "Output",
    "RolloutBoardRecord",
    "RolloutLimits",
    "RolloutRecord",
    "Rollouts",
    "RunLimits",
    "RunRecord",
    "RunState",
    "Runs",
    "Store",
    "StoreUnusable",
    "StoredLeases",
    "Verdict",
]
