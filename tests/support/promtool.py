"""Rules under ``promtool test rules``: a case is a set of series, and all alerts that fire at some moments."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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


Expectation = Callable[[str, str, Sequence[str]], dict[str, Any]]
"""promtool's expectation at a moment of a job, from the words that follow the moment."""


def alerts_firing(job: str, moment: str, alerts: Sequence[str]) -> dict[str, Any]:
    """These alerts fire, and no others."""
    counts = sorted(Counter(alerts).items())
    samples = [{"labels": f'{{alertname="Jwt{alert}"}}', "value": count} for alert, count in counts]
    return {"expr": FIRING.format(job=job), "eval_time": moment, "exp_samples": samples}


def failures(
    table: Mapping[str, tuple[Series, str]], directory: Path, rules: Path = RULES, *, base: Series | None = None,
    interval: str = "1m", expected: Expectation = alerts_firing,
) -> dict[str, str]:  # fmt: skip
    """promtool's report on each case that does not hold, by its job; the rules see only the series of one job.

    Args:
        table: Situations by name: series (in addition to ``base``), and what holds at some moments, such as
            ``"1h; 1h30m BreakerOpen KeySetStale"`` (alerts without ``Jwt``; one on two instances is listed twice).
    """
    cases = [(re.sub("[^a-z0-9]+", "_", name.lower()), *case) for name, case in table.items()]
    assert len({job for job, _, _ in cases}) == len(cases)

    def run(first: int) -> dict[str, str]:
        batch = cases[first : first + 4]
        test = {
            "interval": interval,
            "input_series": [
                {"series": series.replace('job="app"', f'job="{job}"'), "values": values}
                for job, given, _ in batch
                for series, values in {**(base or {}), **given}.items()
            ],
            "promql_expr_test": [
                expected(job, moment.split()[0], moment.split()[1:])
                for job, _, moments in batch
                for moment in moments.split(";")
            ],
        }
        path = directory / f"cases-{first}.yaml"
        document = {"rule_files": [str(rules)], "evaluation_interval": interval, "tests": [test]}
        path.write_text(yaml.safe_dump(document, sort_keys=False, width=10_000))
        output = promtool("test", "rules", str(path))
        parts = re.split(r"(?=^ {4}expr: )", output, flags=re.MULTILINE)
        reports = {job: "".join(part for part in parts if f'job=\\"{job}\\"' in part) for job, _, _ in batch}
        assert bool(output) == any(reports.values()), output
        return {job: report for job, report in reports.items() if report}

    with ThreadPoolExecutor(2) as pool:  # four cases a run: promtool loads a limited number of samples
        runs = pool.map(run, range(0, len(cases), 4))
        return {job: report for reports in runs for job, report in reports.items()}


def promtool(*arguments: str) -> str:
    """Run promtool; its output if it fails, else empty."""
    command = [program("promtool"), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    return "" if finished.returncode == 0 else finished.stdout + finished.stderr
