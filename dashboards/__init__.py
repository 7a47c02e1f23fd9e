"""Dashboards, recording rules and alerts as code: ``python -m dashboards`` writes ``generated/``, which is committed.

Read ``README.md`` for how to install them and ``runbook.md`` for what each alert wants of you. Names come from
``jwt_middleware.names``; how Prometheus spells them is told in :mod:`dashboards.promql`, once.
"""

import warnings
from pathlib import Path
from typing import Final

with warnings.catch_warnings():
    # The builders would rather write Grafana 13's format; the classic JSON is what every Grafana from 11 on reads.
    warnings.filterwarnings("ignore", message="Prefer using dashboardv2", category=DeprecationWarning)
    from grafana_foundation_sdk.builders import dashboard, timeseries  # noqa: F401 - they warn when first imported

GENERATED: Final = Path(__file__).with_name("generated")
