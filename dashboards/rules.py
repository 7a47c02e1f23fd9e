"""The rules file for Prometheus, built from :mod:`dashboards.recording` and :mod:`dashboards.alerts`."""

from __future__ import annotations

from typing import Any, Final

import yaml

from .alerts import ALERTS
from .recording import recordings

RUNBOOK: Final = "https://runbooks.example.com/jwt_middleware"
"""Where ``runbook.md`` is served; ``python -m jwt_middleware dashboards --runbook URL`` writes yours in its place."""
HEADER: Final = "# Written by `python -m dashboards`; do not edit. What to do about each alert: runbook.md\n"


class _Text(str):
    """A string that YAML gets as a block if it has several lines."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    pass


def _block(dumper: yaml.SafeDumper, text: _Text) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(_Text, _block)


def rules() -> dict[str, Any]:
    """The content of the file."""
    recorded = [{"record": name, "expr": _Text(expr)} for name, expr in recordings().items()]
    alerting = [
        {
            "alert": alert.name,
            "expr": _Text(alert.expr),
            "for": alert.hold,
            "labels": {"severity": alert.severity},
            "annotations": {
                "summary": alert.summary,
                "description": alert.description,
                "runbook_url": f"{RUNBOOK}#{alert.name.lower()}",
            },
        }
        for alert in ALERTS
    ]
    return {
        "groups": [
            {"name": "jwt_middleware.recording", "rules": recorded},
            {"name": "jwt_middleware.alerts", "rules": alerting},
        ]
    }


def text() -> str:
    """The file's text."""
    return HEADER + yaml.dump(rules(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
