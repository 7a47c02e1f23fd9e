"""The ways into a Grafana: the command, the wheel, provisioning, the compose file, the README."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import GENERATED, rules
from dashboards.alerts import ALERTS
from dashboards.promql import label, metric_name
from dashboards.recording import recordings
from dashboards.verdict import STATES
from jwt_middleware import names
from jwt_middleware.cli import dashboards as command
from jwt_middleware.cli import main
from tests.support.promtool import ROOT, promtool

FOLDER = ROOT / "dashboards"
README = (FOLDER / "README.md").read_text()
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RUNBOOK = "https://wiki.example.com/jwt"


def written(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


def test_the_command_writes_everything_with_the_address_of_the_runbook(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "a" / "b"
    assert main(["dashboards", str(target), "--runbook", f"{RUNBOOK}/"]) == 0
    files = written(target)
    assert set(files) == {*(path.name for path in GENERATED.iterdir()), "runbook.md"}
    output = capsys.readouterr().out
    assert output.startswith(f"written to {target}: ")
    assert "--runbook" not in output
    assert command.PLACEHOLDER not in "".join(files.values())
    for alert in ALERTS:
        assert f"runbook_url: {RUNBOOK}#{alert.name.lower()}" in files["jwt-rules.yaml"]
    assert main(["dashboards", str(target)]) == 0


def test_without_an_address_the_files_are_unchanged_and_the_command_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dashboards", str(tmp_path)]) == 0
    assert "use --runbook URL" in capsys.readouterr().out
    assert written(tmp_path) == {**written(GENERATED), "runbook.md": (FOLDER / "runbook.md").read_text()}


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        main(["dashboards", str(tmp_path / "file" / "below")])
    output = capsys.readouterr().err
    assert ended.value.code == 2
    assert re.fullmatch(r"jwt_middleware: .+ cannot be written: .+\n", output)


def test_the_wheel_s_files_come_before_those_of_a_checkout(tmp_path: Path) -> None:
    (tmp_path / "b.json").touch()
    (tmp_path / "a.json").touch()
    assert [each.name for each in command.packaged_files(tmp_path)] == ["a.json", "b.json"]


def test_the_command_and_the_rules_mean_the_same_address() -> None:
    assert command.PLACEHOLDER == rules.RUNBOOK


def test_the_wheel_brings_the_files() -> None:
    build = importlib.import_module("tomllib").loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["force-include"] == {
        "dashboards/generated": "jwt_middleware/dashboards",
        "dashboards/runbook.md": "jwt_middleware/dashboards/runbook.md",
    }
    assert "dashboards" in build["targets"]["sdist"]["include"]


def test_every_image_is_pinned() -> None:
    images = {name: service["image"] for name, service in SERVICES.items() if "image" in service}
    assert set(SERVICES) - set(images) == {"demo"}
    for image in images.values():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", image)
    assert re.search(r"^FROM python:3\.\d+-slim$", SERVICES["demo"]["build"]["dockerfile_inline"], re.MULTILINE)


def test_every_mounted_file_exists_and_every_dependency_is_a_service() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", [])) <= set(SERVICES)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (FOLDER / source).exists(), volume
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_demo_sends_otlp_with_a_job_and_an_instance() -> None:
    environment = SERVICES["demo"]["environment"]
    assert environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"
    assert "service.instance.id=" in environment["OTEL_RESOURCE_ATTRIBUTES"]
    assert environment["OTEL_SERVICE_NAME"]
    arguments = SERVICES["demo"]["command"][3:]
    from demo_app.__main__ import _parser  # noqa: PLC0415 - slow, and only asked whether it understands

    assert str(_parser().parse_args(arguments).log).startswith("/var/log/demo/")


def test_the_collector_s_pipelines_use_existing_parts() -> None:
    collector = yaml.safe_load((FOLDER / "stack" / "collector.yaml").read_text())
    for pipeline in collector["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(collector[part])
    hosts = {re.match(r"http://(\w+):", each["endpoint"]) for each in collector["exporters"].values()}
    assert {host[1] for host in hosts if host} == {"prometheus", "loki", "tempo"}


@pytest.mark.server
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """What Debian's older Prometheus does not know yet is left out."""
    configuration = yaml.safe_load((FOLDER / "stack" / "prometheus.yaml").read_text())
    assert configuration.pop("otlp") == {"translation_strategy": "UnderscoreEscapingWithSuffixes"}
    mounted = dict(volume.split(":")[1::-1] for volume in SERVICES["prometheus"]["volumes"])
    assert [mounted[path] for path in configuration["rule_files"]] == ["./generated/jwt-rules.yaml"]
    path = tmp_path / "prometheus.yaml"
    path.write_text(yaml.safe_dump(configuration))
    assert promtool("check", "config", "--syntax-only", str(path)) == ""


def test_provisioning_leads_to_the_dashboards_and_the_services() -> None:
    sources = yaml.safe_load((FOLDER / "provisioning/datasources/jwt_middleware.yaml").read_text())["datasources"]
    assert {source["type"] for source in sources} == {"prometheus", "loki", "tempo"}
    for source in sources:
        assert re.match(r"http://(\w+):", source["url"])[1] in SERVICES  # type: ignore[index] # it matches, or fails
    provider = yaml.safe_load((FOLDER / "provisioning/dashboards/jwt_middleware.yaml").read_text())["providers"][0]
    mounted = dict(volume.split(":")[1::-1] for volume in SERVICES["grafana"]["volumes"])
    assert mounted[provider["options"]["path"]] == "./generated"


def table(heading: str) -> dict[str, list[str]]:
    """The rows below a heading of the README, by the code of their first cell."""
    below = README.split(f"\n{heading}\n", 1)[1]
    rows = re.findall(
        r"^\| `([^`]+)` \| (.*) \|$", re.split(r"^#", below, maxsplit=1, flags=re.MULTILINE)[0], re.MULTILINE
    )
    return {name: rest.split(" | ") for name, rest in rows}


def test_the_readme_s_metrics_are_those_of_the_code() -> None:
    expected = {
        metric_name(metric): [
            metric.kind,
            ", ".join(f"`{label(attribute)}`" for attribute in metric.attributes) or "—",
            metric.description.rstrip("."),
        ]
        for metric in names.METRICS
    }
    assert table("## Metrics") == expected


def test_the_readme_s_recorded_series_are_those_of_the_code() -> None:
    found = table("### Recorded")
    assert list(found) == list(recordings())
    words = ", ".join(f"{state} {verdict.value}" for verdict, state in STATES.items())
    assert found["jwt_middleware:payload:verdict"] == [words]


def test_the_readme_counts_the_alerts() -> None:
    assert f"recording rules and {len(ALERTS)} alerts" in README


def test_the_readme_s_files_and_links_exist() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (FOLDER / target).exists(), target
    for name in re.findall(r"^\| `([^`*]+)`", README.split("## Into your Grafana")[0], re.MULTILINE):
        for path in name.split("`, `"):
            assert (FOLDER / path).exists(), path


def test_every_dashboard_is_named_in_the_readme() -> None:
    titles = {json.loads(path.read_text())["title"] for path in GENERATED.glob("*.json")}
    assert all(f"**{title}**" in README for title in titles)
