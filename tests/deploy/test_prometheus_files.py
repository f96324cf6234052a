"""The shipped Prometheus files, judged by Prometheus' own tool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
METRIC = re.compile(r"\b(?:belayd|grpc_server)_\w+")


def alerts() -> list[dict[str, str]]:
    groups = yaml.safe_load((FOLDER / "belayd.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", "belayd.rules.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "belayd.rules.test.yml"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_accepts_them(arguments: list[str]) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_to_fire() -> None:
    tests = yaml.safe_load((FOLDER / "belayd.rules.test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}

    assert fired == {rule["alert"] for rule in alerts()}


def test_alerts_use_metrics_that_exist() -> None:
    documented = set(METRIC.findall((ROOT / "docs" / "metrics.md").read_text()))
    used = {name.removesuffix("_bucket") for rule in alerts() for name in METRIC.findall(rule["expr"])}

    assert used - documented == set()
