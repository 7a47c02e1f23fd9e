"""Simulated days: the real middleware under a simulated clock, written as OpenMetrics."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from dashboards.promql import label, metric_name
from dashboards.simulation.__main__ import main
from dashboards.simulation.openmetrics import write
from dashboards.simulation.process import LEEWAY, Process
from dashboards.simulation.scenarios import DAY, RELEASE, SCENARIOS, Deploy
from dashboards.simulation.simulator import ROLLING, Plan, Simulation, simulate
from dashboards.simulation.site import visits
from dashboards.simulation.world import HOUR, SimulatedClock, world_of
from jwt_middleware import names
from tests.support.promtool import promtool

SMALL = Plan(users=20, instances=2, days=0.25, every=300)
SAMPLE = re.compile(r"(?P<name>[a-z_]+)\{(?P<labels>[^}]*)\} (?P<value>\S+) (?P<at>[\d.]+)")
GOLDEN = Path(__file__).parents[1] / "telemetry" / "scrape.txt"


def text(*simulations: Simulation) -> str:
    out = io.StringIO()
    write(out, [simulation.segments for simulation in simulations])
    return out.getvalue()


@pytest.fixture(scope="module")
def small() -> str:
    return text(simulate(SMALL))


@pytest.fixture(scope="module")
def adopting() -> str:
    """An app that adopts this package, with a line for its former tokens: it has every metric."""
    return text(simulate(replace(SMALL, scenario="long-lived", days=0.5, users=40)))


def samples(written: str) -> list[re.Match[str]]:
    found = [SAMPLE.fullmatch(line) for line in written.splitlines() if not line.startswith("#")]
    assert all(found)
    return [each for each in found if each is not None]


def values(written: str, name: str, *labels: str) -> list[tuple[int, float]]:
    return [
        (int(float(each["at"])), float(each["value"]))
        for each in samples(written)
        if each["name"] == name and all(label in each["labels"] for label in labels)
    ]


def test_the_same_plan_gives_the_same_samples(small: str) -> None:
    assert text(simulate(SMALL)) == small


def test_another_seed_gives_other_samples(small: str) -> None:
    assert text(simulate(replace(SMALL, seed=2))) != small


def test_families_and_series_are_written_together_and_in_order(small: str) -> None:
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


def test_series_are_those_of_the_exporter(adopting: str) -> None:
    """The names and labels of the golden scrape, and the labels that a scrape adds; there no key has an end."""
    shapes: set[tuple[str, frozenset[str]]] = set()
    for line in GOLDEN.read_text().splitlines():
        if found := re.fullmatch(r"(\w+)(?:\{(.*)\})? \S+", line):
            labels = re.findall(r'(\w+)="([^"]+)"', found[2] or "")
            shapes.add((found[1], frozenset({name for name, _ in labels} | {"job", "instance"})))
    written = {
        (each["name"], frozenset(name for name, _ in re.findall(r'(\w+)="([^"]*)"', each["labels"])))
        for each in samples(adopting)
    }
    scraped = frozenset({"job", "instance"})
    assert written - shapes == {("up", scraped), (metric_name(names.KEY_END), scraped | {label(names.KEY_ID)})}
    assert shapes - written <= {(name, labels) for name, labels in shapes if "jwks" in name}


@pytest.mark.server
def test_promtool_makes_blocks_of_it(small: str, tmp_path: Path) -> None:
    (tmp_path / "days").write_text(small)
    paths = str(tmp_path / "days"), str(tmp_path / "tsdb")
    assert promtool("tsdb", "create-blocks-from", "openmetrics", *paths) == ""
    assert len(list((tmp_path / "tsdb").iterdir())) == 3


def test_several_simulations_share_a_file_as_jobs() -> None:
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
    with pytest.raises(RuntimeError, match="differs from what the meter provider exports"):
        process.verify()


def test_a_release_is_a_restart_of_one_instance_after_the_other() -> None:
    simulation = simulate(replace(SMALL, days=3))
    for number in range(SMALL.instances):
        minting = values(
            text(simulation),
            "jwt_middleware_payload_info",
            'jwt_middleware_payload_mints="1"',
            f'"app-{number + 1}:8000"',
        )
        released = simulation.start + RELEASE * 3_600 + number * ROLLING
        assert 0 <= released - minting[-1][0] <= SMALL.every
    assert {token.version for token in simulation.minted} == {1, 2}


def test_tokens_of_an_app_without_this_package_need_a_line_until_it_ends() -> None:
    """They live nine days, and the last is minted at the release."""
    simulation = simulate(replace(SMALL, scenario="long-lived", days=12, users=60, instances=1))
    written = text(simulation)
    needed = values(written, "jwt_middleware_adoptions_total", 'rule="foreign"')
    assert needed == values(written, "jwt_middleware_adoptions_total", 'rule="window"')
    assert needed[-1][1] > 0
    [ends] = {at for _, at in values(written, metric_name(names.ENVELOPE_END))}
    assert ends == simulation.start + (RELEASE + 9 * DAY) * HOUR + 2 * LEEWAY
    last_used = [at for _, at in values(written, metric_name(names.ENVELOPE_LAST_USED))]
    assert last_used == sorted(last_used)
    assert simulation.start + RELEASE * HOUR < last_used[-1] < ends < simulation.end
    assert not [at for at, refused in values(written, "jwt_middleware_requests_total", '"token_foreign"') if refused]


def test_nothing_is_scraped_in_a_gap() -> None:
    simulation = simulate(replace(SMALL, scenario="scrape-gap", days=8.1, users=5, instances=1))
    moments = [(at - simulation.start) / 3_600 for at, _ in values(text(simulation), "up")]
    assert not [hours for hours in moments if 3 * DAY <= hours < 8 * DAY]
    assert min(hours for hours in moments if hours > 3 * DAY) == 8 * DAY


def test_no_user_comes_after_the_last_visit() -> None:
    simulation = simulate(replace(SMALL, scenario="no-traffic", days=5, users=30, instances=1))
    accepted = values(text(simulation), "jwt_middleware_requests_total", 'result="accepted"', 'version="2"')
    quiet = [value for at, value in accepted if (at - simulation.start) / 3_600 > 4 * DAY + 1]
    assert quiet[0] == quiet[-1] > 0


def test_users_come_in_office_hours() -> None:
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


def test_the_command_writes_a_file_and_prints_its_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "days"
    options = ["--days", "0.25", "--users", "20", "--instances", "2", "--every", "5m", "--start", "2026-11-03"]
    assert main(["--out", str(path), *options]) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"{path}: 2026-11-03 00:00 to 2026-11-03 06:00 UTC, ")
    assert output.endswith(f" {len(samples(path.read_text()))} samples\n")


def test_an_unusable_argument_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    for arguments, message in [
        (["--scenario", "sad"], "--scenario must be one of happy, "),
        (["--days", "0"], "--days must be above 0"),
        (["--users", "0"], "--users must be between"),
        (["--instances", "11"], "--instances must be between"),
        (["--every", "10m"], "--every must be between"),
        (["--every", "soon"], "45s, 3m, 1h or 7d"),
        (["--start", "monday"], "'monday' is not a day"),
        (["--out", "/nowhere/history"], "No such file"),
    ]:
        with subtests.test(arguments=arguments):
            with pytest.raises(SystemExit) as ended:
                main(["--out", str(tmp_path / "days"), *arguments])
            assert ended.value.code == 2
            output = capsys.readouterr().err
            assert message in output
            assert output.startswith("dashboards.simulation: ")
            assert output.count("\n") == 1


def test_the_help_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    output = capsys.readouterr().out
    assert all(f"  {name} " in output for name in SCENARIOS)


def test_the_start_may_have_a_time_zone(tmp_path: Path) -> None:
    path = tmp_path / "days"
    options = ["--days", "0.01", "--users", "2", "--instances", "1", "--start", "2026-11-02T00:00+01:00"]
    assert main(["--out", str(path), *options]) == 0
    assert values(path.read_text(), "up")[0][0] == int(datetime(2026, 11, 1, 23, tzinfo=UTC).timestamp())


def test_every_metric_without_remote_keys_is_written(adopting: str) -> None:
    families = {line.split()[2] for line in adopting.splitlines() if line.startswith("# TYPE")}
    local = [metric for metric in names.METRICS if "jwks" not in metric.name]
    assert len(families) == len(local) + 1
