"""Deployments from Python: a folder prepared here, then put on one board."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from belayd_client import boards, deployment, project
from belayd_client.deployment import DeploymentOptions, DeploymentPlan, DeploymentProgress, DeploymentSummary
from belayd_client.lease import Lease, token_of
from belayd_client.link import Link
from belayd_client.preparation.trees import Recipe, kind_for, prepare
from belayd_client.project import Project


class Deploys:
    """The part of Client that puts files on boards."""

    _link: Link

    def deploy(
        self,
        board: str,
        folder: str | os.PathLike[str] | Project,
        *,
        dst: str = "/",
        prune: bool = False,
        keep: Sequence[str] = (),
        prune_also: Sequence[str] = (),
        ignore: Sequence[str] = (),
        mpy: bool = False,
        minify: bool = False,
        as_is: Sequence[str] = (),
        boot_guard: bool = False,
        in_place: bool = False,
        without_rollback: bool = False,
        dry_run: bool = False,
        on_plan: Callable[[DeploymentPlan], None] | None = None,
        progress: Callable[[DeploymentProgress], None] | None = None,
        lease: Lease | str | None = None,
        timeout: float | None = None,
    ) -> DeploymentSummary:
        """Make a board's files below `dst` equal to a folder's; what is equal already is not sent.

        The board has all of the new files at the end or, if it breaks off, all of the old.

        Args:
            board: The board's name.
            folder: The folder, or a project that is ready and uploaded; nothing is made of that.
            dst: An absolute folder on the board.
            prune: Delete what the board has below `dst` and the folder has not.
            keep: gitignore patterns of what prune leaves alone, relative to `dst`.
            prune_also: Which of boot.py, webrepl_cfg.py and lib/ prune may delete too.
            ignore: gitignore patterns of what is not deployed, relative to `folder`.
            mpy: Compile for the board; an old .py that would hide a new .mpy is deleted.
            minify: Leave out comments, docstrings and indentation; lines keep their numbers.
            as_is: gitignore patterns of what is neither checked nor changed.
            boot_guard: Add belayd_guard.py, which the folder's boot.py must import first.
            in_place: Replace file by file, where the board has no room for both trees; what
                breaks off leaves some files of each.
            without_rollback: Keep nothing of what the board had.
            dry_run: Change nothing; the summary's plan says what would be done.
            on_plan: Called once with the plan, before anything is done.
            progress: Called as the board acknowledges bytes.
            lease: As in `run`.
            timeout: As in `run`; None is the daemon's ten minutes.

        Raises:
            PreparationFailed: Something in the folder is broken or cannot go on a board; nothing was sent.
            Unsupported: The board takes no .mpy files that can be made here.
        """
        if not isinstance(folder, Project):
            kind = kind_for(boards.get_board(self._link, board)) if mpy else None
            recipe = Recipe(mpy, minify, tuple(as_is), boot_guard)
            folder = prepare(project.read(folder, ignore), [kind], recipe)[kind]
            if not dry_run:
                self.upload(folder)
        return deployment.deploy(
            self._link,
            board,
            folder,
            DeploymentOptions(
                dst, prune, tuple(keep), tuple(prune_also), dry_run, in_place, without_rollback
            ),
            token=token_of(lease),
            timeout=timeout,
            on_plan=on_plan,
            progress=progress,
        )

    def upload(self, folder: Project) -> int:
        """Give the daemon the contents that it lacks, once for many boards; return how many those were."""
        return deployment.upload(self._link, folder)
