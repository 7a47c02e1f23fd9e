"""Dashboards, recording rules and alerts as code: ``python -m dashboards`` writes ``generated/``, which is committed.

``README.md`` says how to install them, ``runbook.md`` what to do about each alert. All names come from
``jwt_middleware.names``; :mod:`dashboards.promql` translates them to those of Prometheus.
"""

from pathlib import Path
from typing import Final

GENERATED: Final = Path(__file__).with_name("generated")
