"""Rules under ``promtool test rules``: a case is a set of series, and all alerts that fire at some moments."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    matchers = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{metric_name(metric)}{{{matchers}}}"


Cases = Mapping[str, tuple[Series, str]]
"""By name the series with their values, one a minute by default, and all alerts that fire at some moments, without the
prefix ``Jwt``: ``"1h; 1h30m BreakerOpen KeySetStale"``. An alert on two instances is listed twice."""
Expectation = Callable[[str, str, Sequence[str]], dict[str, Any]]
"""promtool's expectation at a moment of a job, from the words that follow the moment."""


def alerts_firing(job: str, moment: str, alerts: Sequence[str]) -> dict[str, Any]:
    """These alerts fire, and no others."""
    counts = sorted(Counter(alerts).items())
    samples = [{"labels": f'{{alertname="Jwt{alert}"}}', "value": count} for alert, count in counts]
    return {"expr": FIRING.format(job=job), "eval_time": moment, "exp_samples": samples}


def job_of(name: str) -> str:
    """The job of a case's series, so that many cases fit into one run."""
    return re.sub("[^a-z0-9]+", "_", name.lower())


def moments_of(words: str) -> Iterator[tuple[str, list[str]]]:
    """Each moment with the words that follow it."""
    for moment in words.split(";"):
        yield moment.split()[0], moment.split()[1:]


def reports(
    cases: Cases,
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
            {"series": series.replace('job="app"', f'job="{job_of(name)}"'), "values": values}
            for name, (given, _) in cases.items()
            for series, values in given.items()
        ],
        "promql_expr_test": [
            expected(job_of(name), moment, words)
            for name, (_, moments) in cases.items()
            for moment, words in moments_of(moments)
        ],
    }
    document = {"rule_files": [str(rules)], "evaluation_interval": interval, "tests": [test]}
    path = directory / "cases.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False, width=10_000))
    output = promtool("test", "rules", str(path))
    parts = re.split(r"(?=^ {4}expr: )", output, flags=re.MULTILINE)
    jobs = {job: "".join(part for part in parts if f'job=\\"{job}\\"' in part) for job in map(job_of, cases)}
    assert len(jobs) == len(cases)
    assert bool(output) == any(jobs.values()), output
    return jobs


def promtool(*arguments: str) -> str:
    """Run promtool; its output if it fails, else empty."""
    command = [program("promtool"), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    return "" if finished.returncode == 0 else finished.stdout + finished.stderr
