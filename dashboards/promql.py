"""How Prometheus spells the names of ``jwt_middleware.names``, and the few pieces that every query is made of.

One strategy is supported, OTLP's ``UnderscoreEscapingWithSuffixes``, which is also what OpenTelemetry's exporter for
Python does: dots become underscores, a unit becomes a suffix (annotations in braces do not), a counter ends in
``_total``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jwt_middleware import names
from jwt_middleware.names import Metric

_UNIT_SUFFIXES: Final = {"s": "_seconds"}
_PARTS: Final = {"histogram": ("_bucket", "_count", "_sum")}


def spelled(metric: Metric) -> str:
    """The name in Prometheus; of a histogram the common beginning of its three series."""
    unit = "" if metric.unit.startswith("{") or not metric.unit else _UNIT_SUFFIXES[metric.unit]
    return f"{metric.name.replace('.', '_')}{unit}{'_total' if metric.kind == 'counter' else ''}"


def series_of(metric: Metric) -> list[str]:
    """Every series name that the metric has in Prometheus."""
    return [spelled(metric) + part for part in _PARTS.get(metric.kind, ("",))]


def label(attribute: str) -> str:
    """The name of an attribute in Prometheus."""
    return attribute.replace(".", "_")


VERSION: Final = label(names.PAYLOAD_VERSION)
MINTS: Final = label(names.PAYLOAD_MINTS)
ERROR: Final = label(names.ERROR_TYPE)
LOOKUP: Final = label(names.LOOKUP)
OUTCOME: Final = label(names.OUTCOME)


def is_(attribute: str, value: str) -> str:
    return f'{label(attribute)}="{value}"'


def one_of(attribute: str, values: Iterable[str]) -> str:
    return f'{label(attribute)}=~"{"|".join(values)}"'


def none_of(attribute: str, values: Iterable[str]) -> str:
    return f'{label(attribute)}!~"{"|".join(values)}"'


def select(metric: Metric, *matchers: str, part: str = "") -> str:
    """A selector; never by ``otel_scope_*``, which are labels only where the exporter was asked for them."""
    return f"{spelled(metric)}{part}" + (f"{{{', '.join(matchers)}}}" if matchers else "")


ACCEPTED: Final = is_(names.RESULT, "accepted")
REFUSED: Final = is_(names.RESULT, "refused")
