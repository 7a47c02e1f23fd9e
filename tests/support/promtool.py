"""Rules under ``promtool test rules``: a case is a set of series, and all that must fire at each moment."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from dashboards.prometheus import RULES, program
from dashboards.promql import label, metric_name
from jwt_middleware.names import Metric

ROOT: Final = Path(__file__).parents[2]
FIRING: Final = 'count by (alertname) (ALERTS{{alertstate="firing", job="{job}"}})'

Series = dict[str, str]


def series(metric: Metric, attributes: Mapping[str, str] | None = None, *, job: str = "app", at: str = "a") -> str:
    """The series of a metric at one instance."""
    labels = {"job": job, "instance": at, **{label(name): value for name, value in (attributes or {}).items()}}
    return f"{metric_name(metric)}{{{', '.join(f'{name}={value!r}' for name, value in labels.items())}}}".replace(
        "'", '"'
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """Values in promtool's notation, one a minute where it is not said otherwise."""

    name: str
    given: Series
    fires: Mapping[str, Sequence[str]]
    """All alerts that fire, by the moment: ``{"90m": ["JwtBreakerOpen"]}``; an alert on two instances stands twice."""

    @property
    def job(self) -> str:
        """The job that the case's series get: many cases are told in one run."""
        return re.sub("[^a-z0-9]+", "_", self.name.lower())

    def series(self) -> list[dict[str, str]]:
        return [
            {"series": name.replace('job="app"', f'job="{self.job}"'), "values": it} for name, it in self.given.items()
        ]

    def expectations(self) -> list[dict[str, Any]]:
        return [
            {
                "expr": FIRING.format(job=self.job),
                "eval_time": moment,
                "exp_samples": [
                    {"labels": f'{{alertname="{alert}"}}', "value": list(alerts).count(alert)}
                    for alert in sorted(set(alerts))
                ],
            }
            for moment, alerts in self.fires.items()
        ]


def told(cases: Sequence[Case], directory: Path, rules: Path = RULES, *, interval: str = "1m") -> dict[str, str]:
    """What promtool has to say of each case: empty where it holds. One run for all: alerts of one job see no other."""
    assert len({case.job for case in cases}) == len(cases)
    test = {
        "interval": interval,
        "input_series": [each for case in cases for each in case.series()],
        "promql_expr_test": [each for case in cases for each in case.expectations()],
    }
    output = run(test, directory, rules, interval=interval)
    complaints = re.split(r"(?=^ {4}expr: )", output, flags=re.MULTILINE)
    said = {case.job: "".join(each for each in complaints if f'job=\\"{case.job}\\"' in each) for case in cases}
    assert bool(output) == any(said.values()), output
    return said


def run(test: dict[str, Any], directory: Path, rules: Path = RULES, *, interval: str) -> str:
    """What promtool has to say of one test; empty where it holds."""
    document = {"rule_files": [str(rules)], "evaluation_interval": interval, "tests": [test]}
    path = directory / "case.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False, width=10_000))
    finished = subprocess.run(
        [program("promtool"), "test", "rules", str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    return "" if finished.returncode == 0 else finished.stdout + finished.stderr
