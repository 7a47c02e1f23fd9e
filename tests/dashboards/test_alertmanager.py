"""One alert from end to end: a real Prometheus, a real Alertmanager, and the webhook of the person on call."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dashboards.prometheus import RULES, free_port, program, prometheus, running
from dashboards.rules import RUNBOOK
from jwt_middleware import names
from tests.support.promtool import series
from tests.support.webserver import webserver

pytestmark = pytest.mark.server

BREAKER = series(names.LOOKUP_BREAKER_OPEN, {names.LOOKUP: "claims"}, job="other", at="other")
"""Prometheus sets labels of its own, and keeps scraped labels of these names as ``exported_…``."""


@contextlib.contextmanager
def alertmanager(directory: Path, webhook: str) -> Iterator[str]:
    """The address of Debian's Alertmanager, without a cluster."""
    receiver = {"name": "on call", "webhook_configs": [{"url": f"http://{webhook}/"}]}
    route = {"receiver": "on call", "group_by": ["alertname"], "group_wait": "100ms", "group_interval": "1s"}
    path = directory / "alertmanager.yaml"
    path.write_text(yaml.safe_dump({"route": route, "receivers": [receiver]}))
    address = f"127.0.0.1:{free_port()}"
    options = [
        f"--config.file={path}",
        f"--storage.path={directory / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with running([program("prometheus-alertmanager"), *options], f"http://{address}", directory):
        yield address


def test_an_alert_reaches_the_person_on_call_with_all_its_texts(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(re.sub(r"    for: \d+m$", "    for: 1s", RULES.read_text(), flags=re.MULTILINE))
    with (
        webserver() as (webhook, posts),
        webserver(f"{BREAKER} 1\n") as (app, _),
        alertmanager(tmp_path, webhook) as address,
        prometheus(tmp_path, target=app, rules=rules, alertmanager=address),
    ):
        call = json.loads(posts.get(timeout=180)[1])
    [alert] = call["alerts"]
    assert (call["status"], call["receiver"]) == ("firing", "on call")
    assert alert["labels"] == {
        "alertname": "JwtBreakerOpen",
        "severity": "ticket",
        "job": "demo",
        "instance": app,
        "jwt_middleware_lookup": "claims",
    }
    assert alert["annotations"]["summary"] == f"{app} of demo has stopped querying the claims database"
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOK}#jwtbreakeropen"
