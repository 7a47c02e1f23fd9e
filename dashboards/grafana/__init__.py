"""The three Grafana dashboards, and the panels that they are made of."""

import warnings

with warnings.catch_warnings():
    # The builders warn on import, in favour of Grafana 13's format; every Grafana from 11 on reads the classic JSON.
    warnings.filterwarnings("ignore", message="Prefer using dashboardv2", category=DeprecationWarning)
    from grafana_foundation_sdk.builders import dashboard, timeseries  # noqa: F401 - imported for their warnings
