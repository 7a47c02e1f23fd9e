"""Rules under ``promtool test rules``: a case is a set of series, and all alerts that fire at some moments."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

import pytest
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
    matchers = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{metric_name(metric)}{{{matchers}}}"


class Case(NamedTuple):
    """One situation, and all alerts that fire at some moments, without the prefix ``Jwt``.

    The moments are ``"1h; 1h30m BreakerOpen KeySetStale"``; an alert on two instances is listed twice.
    """

    job: str
    """The job of its series, so that many cases fit into one run."""
    given: Series
    moments: str


Expectation = Callable[[str, str, Sequence[str]], dict[str, Any]]
"""promtool's expectation at a moment of a job, from the words that follow the moment."""


def alerts_firing(job: str, moment: str, alerts: Sequence[str]) -> dict[str, Any]:
    """These alerts fire, and no others."""
    counts = sorted(Counter(alerts).items())
    samples = [{"labels": f'{{alertname="Jwt{alert}"}}', "value": count} for alert, count in counts]
    return {"expr": FIRING.format(job=job), "eval_time": moment, "exp_samples": samples}


def case_list(table: Mapping[str, tuple[Series, str]], *, base: Series | None = None) -> list[Case]:
    """Cases by name: series (in addition to ``base``) and moments."""
    return [
        Case(re.sub("[^a-z0-9]+", "_", name.lower()), {**(base or {}), **given}, moments)
        for name, (given, moments) in table.items()
    ]


def cases(table: Mapping[str, tuple[Series, str]], *, base: Series | None = None) -> pytest.MarkDecorator:
    """Parametrize a test by the cases of a table; the fixture ``reported`` runs all cases of a module at once."""
    listed = case_list(table, base=base)
    return pytest.mark.parametrize("case", listed, ids=[case.job for case in listed])


def cases_of(module: ModuleType) -> list[Case]:
    """All cases of a module's tests."""
    marks = [mark for test in vars(module).values() for mark in getattr(test, "pytestmark", ())]
    return [case for mark in marks if mark.args[:1] == ("case",) for case in mark.args[1]]


def moments_of(words: str) -> Iterator[tuple[str, list[str]]]:
    """Each moment with the words that follow it."""
    for moment in words.split(";"):
        yield moment.split()[0], moment.split()[1:]


def reports(
    listed: Sequence[Case],
    directory: Path,
    rules: Path = RULES,
    *,
    interval: str = "1m",
    expected: Expectation = alerts_firing,
) -> dict[str, str]:
    """promtool's report on each case, by job; empty if the case holds. Rules see only the series of one job."""
    test = {
        "interval": interval,
        "input_series": [
            {"series": series.replace('job="app"', f'job="{case.job}"'), "values": values}
            for case in listed
            for series, values in case.given.items()
        ],
        "promql_expr_test": [
            expected(case.job, moment, words) for case in listed for moment, words in moments_of(case.moments)
        ],
    }
    document = {"rule_files": [str(rules)], "evaluation_interval": interval, "tests": [test]}
    path = directory / "cases.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False, width=10_000))
    output = promtool("test", "rules", str(path))
    parts = re.split(r"(?=^ {4}expr: )", output, flags=re.MULTILINE)
    jobs = {job: "".join(part for part in parts if f'job=\\"{job}\\"' in part) for job, _, _ in listed}
    assert len(jobs) == len(listed)
    assert bool(output) == any(jobs.values()), output
    return jobs


def promtool(*arguments: str) -> str:
    """Run promtool; its output if it fails, else empty."""
    command = [program("promtool"), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    return "" if finished.returncode == 0 else finished.stdout + finished.stderr
