"""OpenMetrics text with timestamps, as ``promtool tsdb create-blocks-from openmetrics`` reads it.

Families one after the other, within them series one after the other, within those the samples in the order of time;
the last line is ``# EOF`` (OpenMetrics 1.0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TextIO

from jwt_middleware import names

from ..scrape import prometheus_name
from .readings import Series

UP: Final = Series("up", "up", ())
_SECONDS: Final = "_seconds"


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of one series: moments as text, and values."""

    times: list[str]
    values: Iterable[float | None]


Segments = Mapping[Series, list[Segment]]
"""Of each series, with ``job`` and ``instance`` among its labels, its parts in the order of time."""


def write(out: TextIO, histories: Iterable[Segments]) -> int:
    """Write all of them, which share no series; returns the number of samples."""
    by_family: dict[str, list[tuple[Series, list[Segment]]]] = {}
    for history in histories:
        for key, segments in history.items():
            by_family.setdefault(key.family, []).append((key, segments))
    written = 0
    for family, header in _headers().items():
        if found := by_family.get(family):
            out.write(header)
            written += sum(_write_series(out, key, segments) for key, segments in sorted(found, key=_by_key))
    out.write("# EOF\n")
    return written


def _by_key(found: tuple[Series, list[Segment]]) -> tuple[str, ...]:
    """Buckets beside each other, in the order of their bounds."""
    labels = {name: value for name, value in found[0].labels if name != "le"}
    bound = dict(found[0].labels).get("le", "")
    return str(labels), found[0].name, f"{float(bound):020.6f}" if bound else ""


def _headers() -> dict[str, str]:
    headers = {UP.family: "# TYPE up gauge\n"}
    for metric in names.METRICS:
        family = prometheus_name(metric)
        name = family.removesuffix("_total")
        unit = f"# UNIT {name} seconds\n" if name.endswith(_SECONDS) else ""
        headers[family] = f"# HELP {name} {metric.description}\n# TYPE {name} {metric.kind}\n{unit}"
    return headers


def _write_series(out: TextIO, key: Series, segments: Iterable[Segment]) -> int:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in key.labels)
    head = f"{key.name}{{{labels}}} "
    written = 0
    for segment in segments:
        lines = [
            f"{head}{value:.16g} {time}\n"
            for time, value in zip(segment.times, segment.values, strict=True)
            if value is not None
        ]
        out.writelines(lines)
        written += len(lines)
    return written


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
