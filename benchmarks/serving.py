"""Over HTTP: uvicorn with uvloop and httptools on one core, wrk on the other, all servers up, in turns.

Requests a second vary with other load on the machine. The CPU that the server's process spends on a request hardly
does: it is read from the kernel around each round, and shows how much of the difference the middleware causes.

The client would sleep on the other core, and waking it costs the server 4 to 9 µs a response on a virtual machine, more
for a slower server. That is not the middleware's cost, so that core is kept awake.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import world
from .measure import FULL, Effort, Line, Section, Spread, Table

ROUNDS, SECONDS = 24, 1
PEERS_EVERY = 4
"""Peers take part in every fourth round; the budget compares the others."""
BARE, OURS, LEAST = "bare", "ours", "about the least there is to do"
ALWAYS = (BARE, OURS, LEAST)
NAMES = (*ALWAYS, "empty pass-through", "AuthenticationMiddleware + PyJWT", "tutorial BaseHTTPMiddleware + PyJWT")
UNGUARDED = (BARE, "empty pass-through")
LATENCY = Path("/dev/cpu_dma_latency")
"""While a process holds it open with the value 0, idle cores poll (Linux, "PM Quality Of Service Interface")."""


@dataclass(frozen=True, slots=True)
class Round:
    """The counts of wrk in one round, and the server's CPU."""

    rate: float
    cpu: float
    """µs a request."""
    busy: float
    """Share of its core."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running contender."""

    port: int
    pid: int


def run(effort: Effort = FULL) -> Section:
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    found: dict[str, list[Round]] = {name: [] for name in NAMES}
    bare_beside: dict[str, list[Round]] = {name: [] for name in NAMES}
    with ExitStack() as stack:
        awake = stack.enter_context(_awake())
        servers = {name: stack.enter_context(_server(name)) for name in NAMES}
        for server in servers.values():
            _round(server)
        order = random.Random(7)
        for turn in range(effort.of(ROUNDS)):
            beside = _round(servers[BARE])
            names = NAMES if turn % PEERS_EVERY == 0 else ALWAYS
            for name in order.sample(names, len(names)):
                found[name].append(beside if name == BARE else _round(servers[name]))
                bare_beside[name].append(beside)
    return Section(tables=[_table(found, bare_beside, awake=awake)], lines=[_line(found, bare_beside)])


def _table(found: dict[str, list[Round]], beside: dict[str, list[Round]], *, awake: bool) -> Table:
    core = "which is asked to stay awake" if awake else "which sleeps between responses, and is woken by the server"
    table = Table(
        title="Over HTTP",
        note="One process of uvicorn with uvloop and httptools on a core of its own, wrk with 16 connections on the "
        f"other, {core}. CPU is what the server's process spent, in µs a request. About the "
        "least there is to do: cookie, digest, session, `Vary`, and no rule checked (`benchmarks/least.py`).",
    )
    for name in NAMES:
        rates = _against(found[name], beside[name])
        extra = Spread.of(mine.cpu - bare.cpu for mine, bare in zip(found[name], beside[name], strict=True))
        table.rows.append(
            {
                "contender": name,
                "requests/s": round(statistics.median(each.rate for each in found[name])),
                "× bare": round(rates, 3),
                "middle half": rates.half(3),
                "CPU, µs": round(statistics.median(each.cpu for each in found[name]), 1),
                "CPU over bare": round(extra, 1),
                "middle half of it": extra.half(1),
                "rounds": len(found[name]),
                "by CPU, × bare": round(_by_cpu(found[name], beside[name]), 3),
                "of its core": f"{statistics.median(each.busy for each in found[name]):.0%}",
            }
        )
    return table


def _line(found: dict[str, list[Round]], beside: dict[str, list[Round]]) -> Line:
    share, by_cpu = _against(found[OURS], beside[OURS]), _by_cpu(found[OURS], beside[OURS])
    least, of_least = _against(found[LEAST], beside[LEAST]), _against(found[OURS], found[LEAST])
    return Line(
        what="cache hit over HTTP, against the bare app",
        budget="≥ 0.93",
        measured=f"{share:.3f} ({by_cpu:.3f} by CPU; {LEAST}: {least:.3f}, of which ours leaves {of_least:.3f})",
        met=share >= 0.93,
        spread=share.half(3),
    )


def _against(mine: list[Round], beside: list[Round]) -> Spread:
    return Spread.of(each.rate / bare.rate for each, bare in zip(mine, beside, strict=True))


def _by_cpu(mine: list[Round], beside: list[Round]) -> Spread:
    """The ratio of requests that the same CPU serves."""
    return Spread.of(bare.cpu / each.cpu for each, bare in zip(mine, beside, strict=True))


@contextmanager
def _awake() -> Iterator[bool]:
    """Keep the cores awake; False if that is not possible: it takes root, and a kernel that supports it."""
    try:
        held = os.open(LATENCY, os.O_WRONLY)
    except OSError:
        yield False
        return
    try:
        os.write(held, bytes(4))
        yield True
    finally:
        os.close(held)


@contextmanager
def _server(name: str) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.server", name, str(port), TOKEN])
    try:
        for _ in range(100):
            if _answers(port):
                break
            time.sleep(0.1)
        else:
            raise SystemExit(f"{name} does not answer")
        if name not in UNGUARDED and _status(port, world.forged()) != 401:
            raise SystemExit(f"{name} accepted a forged token")
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        return _status(port, TOKEN) == 200
    except OSError:
        return False


def _status(port: int, token: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"cookie": f"{world.COOKIE}={token}"})
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def _round(server: Server) -> Round:
    given = [
        f"-H{name.decode()}: {value.decode()}"
        for name, value in world.cookie(TOKEN)
        if name not in (b"host", b"connection")
    ]
    command = ["wrk", "-t1", "-c16", f"-d{SECONDS}s", *given, f"http://127.0.0.1:{server.port}/"]
    pinned = ["taskset", "-c", "1", *command] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else command
    before, started = _cpu(server.pid), time.perf_counter()
    output = subprocess.run(pinned, capture_output=True, text=True, check=True).stdout
    seconds, cpu = time.perf_counter() - started, _cpu(server.pid) - before
    rate, requests = re.search(r"Requests/sec:\s+([\d.]+)", output), re.search(r"(\d+) requests in", output)
    if rate is None or requests is None or "Non-2xx" in output:
        raise SystemExit(output)
    return Round(rate=float(rate[1]), cpu=cpu / int(requests[1]) * 1e6, busy=cpu / seconds)


def _cpu(pid: int) -> float:
    """CPU seconds of a process, all threads together."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


TOKEN = world.today()
