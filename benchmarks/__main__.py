"""``python -m benchmarks``: every section in a process of its own, one report."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from .report import markdown, plain

HERE = Path(__file__).parent
SECTIONS = ("in_process", "pauses", "serving", "verification", "hostile", "release", "signals", "memory", "growth")
PACKAGES = (
    *("asgi-jwt-middleware", "starlette", "fastapi", "litestar", "authx", "pyjwt", "joserfc", "authlib"),
    *("cryptography", "msgspec", "opentelemetry-sdk", "structlog", "sqlalchemy", "asyncpg", "aiosqlite"),
    *("uvicorn", "uvloop", "httptools"),
)


def main(wanted: list[str]) -> int:
    report: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": _versions(),
    }
    sections: dict[str, Any] = {}
    started = perf_counter()
    for name in wanted or SECTIONS:
        print(f"{perf_counter() - started:5.0f} s  {name} …", file=sys.stderr)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "--section", name], stdout=subprocess.PIPE, check=False
        )
        if done.returncode:
            return done.returncode
        sections[name] = json.loads(done.stdout.splitlines()[-1])  # log lines may precede it
    report |= {"seconds": round(perf_counter() - started), "sections": sections}
    (HERE / "results.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    (HERE / "results.md").write_text(markdown(report))
    print(plain(report))
    return 0


def section(name: str) -> None:
    """Run one section; its result is the last line of stdout."""
    result = importlib.import_module(f"benchmarks.{name}").run()
    print(json.dumps(asdict(result), ensure_ascii=False))


def _machine() -> dict[str, object]:
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "cpu": model[0] if model else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--section"]:
        section(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:]))
