"""Histories: the real middleware under a simulated clock, written as OpenMetrics."""

from __future__ import annotations

import io
import re
import subprocess
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from dashboards.prometheus import program
from demo_app.__main__ import main
from demo_app.history.openmetrics import write
from demo_app.history.people import visits
from demo_app.history.process import Process
from demo_app.history.scenarios import DAY, RELEASE, SCENARIOS, Deploy
from demo_app.history.simulation import ROLLING, History, Plan, simulate
from demo_app.history.world import SimulatedClock, world_of
from jwt_middleware import names

SMALL = Plan(users=20, instances=2, days=0.25, every=300)
SAMPLE = re.compile(r"(?P<name>[a-z_]+)\{(?P<labels>[^}]*)\} (?P<value>\S+) (?P<at>\d+)")
GOLDEN = Path(__file__).parents[1] / "telemetry" / "scrape.txt"


def text(*histories: History) -> str:
    out = io.StringIO()
    write(out, [history.segments for history in histories])
    return out.getvalue()


@pytest.fixture(scope="module")
def small() -> str:
    return text(simulate(SMALL))


def samples(written: str) -> list[re.Match[str]]:
    found = [SAMPLE.fullmatch(line) for line in written.splitlines() if not line.startswith("#")]
    assert all(found)
    return [each for each in found if each is not None]


def values(written: str, name: str, *labels: str) -> list[tuple[int, float]]:
    return [
        (int(each["at"]), float(each["value"]))
        for each in samples(written)
        if each["name"] == name and all(label in each["labels"] for label in labels)
    ]


def test_the_same_plan_gives_the_same_history(small: str) -> None:
    assert text(simulate(SMALL)) == small


def test_another_seed_gives_other_days(small: str) -> None:
    assert text(simulate(replace(SMALL, seed=2))) != small


def test_families_and_series_stand_together_and_time_goes_on(small: str) -> None:
    families, series = [], []
    last: dict[str, int] = {}
    for line in small.splitlines()[:-1]:
        if line.startswith("# TYPE"):
            families.append(line.split()[2])
        elif not line.startswith("#"):
            assert line.startswith(families[-1])
            key, _, at = line.rsplit(" ", 2)
            assert int(at) > last.get(key, 0)
            if key not in last:
                series.append(key)
            assert key == series[-1]
            last[key] = int(at)
    assert len(families) == len(set(families))
    assert small.splitlines()[-1] == "# EOF"


def test_what_is_written_is_what_an_exporter_would_have_written(small: str) -> None:
    """The names and labels of the golden scrape, and those of a scrape."""
    shapes: set[tuple[str, frozenset[str]]] = set()
    for line in GOLDEN.read_text().splitlines():
        if found := re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line):
            labels = re.findall(r'(\w+)="([^"]+)"', found[2] or "")
            shapes.add((found[1], frozenset({name for name, _ in labels} | {"job", "instance"})))
    written = {
        (each["name"], frozenset(name for name, _ in re.findall(r'(\w+)="([^"]*)"', each["labels"])))
        for each in samples(small)
    }
    assert written - shapes == {("up", frozenset({"job", "instance"}))}
    assert shapes - written <= {(name, labels) for name, labels in shapes if "jwks" in name}


def test_promtool_makes_blocks_of_it(small: str, tmp_path: Path) -> None:
    (tmp_path / "history").write_text(small)
    finished = subprocess.run(
        [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", tmp_path / "history", tmp_path / "tsdb"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert len(list((tmp_path / "tsdb").iterdir())) == 3


def test_several_histories_share_a_file_under_jobs_of_their_own() -> None:
    together = text(simulate(replace(SMALL, job="one")), simulate(replace(SMALL, job="two")))
    assert together.count("# TYPE jwt_middleware_requests counter") == 1
    jobs = Counter(re.search(r'job="(\w+)"', each["labels"])[1] for each in samples(together))  # type: ignore[index] # every sample has one
    assert set(jobs) == {"one", "two"}
    assert jobs["one"] == jobs["two"]


def test_a_scrape_that_differs_from_the_meter_provider_ends_the_run() -> None:
    clock = SimulatedClock(1_793_577_600)
    process = Process(world_of(SCENARIOS["happy"], clock.now(), clock, Random(1)), Deploy(at=0))
    process.scrape(clock.now())
    process.verify()
    process.authority.parts.counters.counts[0] += 1
    with pytest.raises(RuntimeError, match="differs from what the meter provider says"):
        process.verify()


def test_a_release_is_a_restart_of_one_instance_after_the_other() -> None:
    history = simulate(replace(SMALL, days=3))
    for number in range(SMALL.instances):
        minting = values(
            text(history), "jwt_middleware_payload_info", 'jwt_middleware_payload_mints="1"', f'"app-{number + 1}:8000"'
        )
        released = history.start + RELEASE * 3_600 + number * ROLLING
        assert 0 <= released - minting[-1][0] <= SMALL.every
    assert {token.version for token in history.minted} == {1, 2}


def test_nothing_is_scraped_in_a_gap() -> None:
    history = simulate(replace(SMALL, scenario="scrape-gap", days=8.1, users=5, instances=1))
    moments = [(at - history.start) / 3_600 for at, _ in values(text(history), "up")]
    assert not [hours for hours in moments if 3 * DAY <= hours < 8 * DAY]
    assert min(hours for hours in moments if hours > 3 * DAY) == 8 * DAY


def test_nobody_comes_after_the_last_visit() -> None:
    history = simulate(replace(SMALL, scenario="no-traffic", days=5, users=30, instances=1))
    accepted = values(text(history), "jwt_middleware_requests_total", 'result="accepted"', 'version="2"')
    quiet = [value for at, value in accepted if (at - history.start) / 3_600 > 4 * DAY + 1]
    assert quiet[0] == quiet[-1] > 0


def test_people_come_in_office_hours() -> None:
    hours = Counter(int(at % DAY) for at, _ in visits(Random(1), 500, 7))
    days = Counter(int(at // DAY) for at, _ in visits(Random(1), 500, 7))
    assert hours[10] > 5 * hours[2] > 0
    assert max(days[5], days[6]) < min(days[day] for day in range(5))


def test_the_simulated_clock_never_goes_back() -> None:
    clock = SimulatedClock(1_000)
    clock.spend(5)
    clock.reach(1_001)
    assert clock.now() == clock.monotonic() == 1_005
    clock.reach(1_010)
    assert clock.now() == 1_010


def test_the_command_writes_a_file_and_says_what_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "history"
    asked = ["--days", "0.25", "--users", "20", "--instances", "2", "--every", "5m", "--start", "2026-11-03"]
    assert main(["history", "--out", str(path), *asked]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{path}: 2026-11-03 00:00 to 2026-11-03 06:00 UTC, ")
    assert said.endswith(f" {len(samples(path.read_text()))} samples\n")


@pytest.mark.parametrize(
    ("asked", "mended"),
    [
        (["--scenario", "sad"], "--scenario must be one of happy, "),
        (["--days", "0"], "--days must be above 0"),
        (["--users", "0"], "--users must be between"),
        (["--instances", "11"], "--instances must be between"),
        (["--every", "10m"], "--every must be between"),
        (["--every", "soon"], "'soon' is no duration"),
        (["--start", "monday"], "'monday' is no day"),
        (["--out", "/nowhere/history"], "No such file"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(
    asked: list[str], mended: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["history", "--out", str(tmp_path / "history"), *asked])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert mended in said
    assert said.startswith("demo_app: ")
    assert said.count("\n") == 1


def test_the_help_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["history", "--help"])
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in SCENARIOS)


def test_a_day_may_have_a_zone(tmp_path: Path) -> None:
    path = tmp_path / "history"
    asked = ["--days", "0.01", "--users", "2", "--instances", "1", "--start", "2026-11-02T00:00+01:00"]
    assert main(["history", "--out", str(path), *asked]) == 0
    assert values(path.read_text(), "up")[0][0] == int(datetime(2026, 11, 1, 23, tzinfo=UTC).timestamp())


def test_every_metric_without_remote_keys_is_written(small: str) -> None:
    families = {line.split()[2] for line in small.splitlines() if line.startswith("# TYPE")}
    local = [metric for metric in names.METRICS if "jwks" not in metric.name]
    assert len(families) == len(local) + 1
