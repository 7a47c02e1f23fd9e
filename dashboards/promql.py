"""PromQL's parts: the names of ``jwt_middleware.names`` as Prometheus has them, matchers, selectors.

One translation strategy is supported, OTLP's ``UnderscoreEscapingWithSuffixes``, which OpenTelemetry's exporter for
Python uses too: dots become underscores, a unit becomes a suffix (an annotation in braces does not), a counter ends in
``_total``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jwt_middleware import names
from jwt_middleware.names import Metric

_UNIT_SUFFIXES: Final = {"s": "_seconds"}
_HISTOGRAM_SUFFIXES: Final = ("_bucket", "_count", "_sum")


def metric_name(metric: Metric) -> str:
    """The metric's name in Prometheus; for a histogram the common prefix of its three series names."""
    unit = "" if metric.unit.startswith("{") or not metric.unit else _UNIT_SUFFIXES[metric.unit]
    return f"{metric.name.replace('.', '_')}{unit}{'_total' if metric.kind == 'counter' else ''}"


def series_names(metric: Metric) -> list[str]:
    """Every series name that the metric has in Prometheus."""
    return [metric_name(metric) + suffix for suffix in (_HISTOGRAM_SUFFIXES if metric.kind == "histogram" else ("",))]


def label(attribute: str) -> str:
    """The attribute's name in Prometheus."""
    return attribute.replace(".", "_")


VERSION: Final = label(names.PAYLOAD_VERSION)
MINTS: Final = label(names.PAYLOAD_MINTS)
ERROR: Final = label(names.ERROR_TYPE)
LOOKUP: Final = label(names.LOOKUP)
OUTCOME: Final = label(names.OUTCOME)


def is_(attribute: str, value: str) -> str:
    """A matcher: the attribute has this value."""
    return f'{label(attribute)}="{value}"'


def one_of(attribute: str, values: Iterable[str]) -> str:
    """A matcher: the attribute has one of these values."""
    return f'{label(attribute)}=~"{"|".join(values)}"'


def none_of(attribute: str, values: Iterable[str]) -> str:
    """A matcher: the attribute has none of these values."""
    return f'{label(attribute)}!~"{"|".join(values)}"'


def select(metric: Metric, *matchers: str, part: str = "") -> str:
    """A selector. It never matches on ``otel_scope_*``: exporters add those labels only on request."""
    return f"{metric_name(metric)}{part}" + (f"{{{', '.join(matchers)}}}" if matchers else "")


ACCEPTED: Final = is_(names.RESULT, "accepted")
REFUSED: Final = is_(names.RESULT, "refused")
