"""Over HTTP: uvicorn with uvloop and httptools on one core, wrk on the other, all servers up, in turns."""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from . import world
from .measure import Line, Section, Table

ROUNDS, SECONDS = 15, 1
NAMES = ("bare", "ours", "AuthenticationMiddleware + PyJWT", "tutorial BaseHTTPMiddleware + PyJWT")


def run() -> Section:
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    with ExitStack() as stack:
        ports = {name: stack.enter_context(_server(name)) for name in NAMES}
        for name in NAMES:
            _wrk(ports[name], 1)
        for turn in range(ROUNDS):
            for name in NAMES[turn % len(NAMES) :] + NAMES[: turn % len(NAMES)]:
                found[name].append(_wrk(ports[name], SECONDS))
    table = Table(
        title="Over HTTP", note="Requests a second of one process: uvicorn, uvloop, httptools, wrk with 16 connections."
    )
    for name in NAMES:
        of_bare = statistics.median(mine / bare for mine, bare in zip(found[name], found["bare"], strict=True))
        table.rows.append(
            {"contender": name, "requests/s": round(statistics.median(found[name])), "× bare": round(of_bare, 3)}
        )
    share = table.rows[1]["× bare"]
    line = Line(
        what="plain hit over HTTP, against the bare app", budget="≥ 0.93", measured=f"{share:.3f}", met=share >= 0.93
    )
    return Section(tables=[table], lines=[line])


def token() -> str:
    import jwt

    return jwt.encode(world.claims(), world.SECRET, algorithm="HS256")


@contextmanager
def _server(name: str) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.serving", name, str(port)])
    try:
        for _ in range(100):
            try:
                with urllib.request.urlopen(_request(port)) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                time.sleep(0.1)
        else:
            raise SystemExit(f"{name} does not answer")
        yield port
    finally:
        process.terminate()
        process.wait()


def _request(port: int) -> urllib.request.Request:
    return urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"cookie": f"{world.COOKIE}={_TOKEN}"})


def _wrk(port: int, seconds: int) -> float:
    given = [
        f"-H{name.decode()}: {value.decode()}"
        for name, value in world.cookie(_TOKEN)
        if name not in (b"host", b"connection")
    ]
    command = ["wrk", "-t1", "-c16", f"-d{seconds}s", *given, f"http://127.0.0.1:{port}/"]
    pinned = ["taskset", "-c", "1", *command] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else command
    said = subprocess.run(pinned, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if rate is None or "Non-2xx" in said:
        raise SystemExit(said)
    return float(rate[1])


def _serve(name: str, port: int) -> None:
    import uvicorn
    from starlette.middleware import Middleware

    from jwt_middleware import JWTSessionMiddleware

    from . import peers

    world.quiet()
    if (os.cpu_count() or 1) > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})
    app: Any
    if name == "bare":
        app = peers.bare()
    elif name == "ours":
        store = _Everyone()
        app = peers.bare(
            Middleware(JWTSessionMiddleware, authority=world.authority(store=store), public=["/login", "/static/*"])
        )
    else:
        app = peers.starlettes("")[name].app
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", log_level="error", access_log=False)


class _Everyone:
    """A store that knows the one session of this benchmark as active."""

    resource = "nothing"

    async def statuses(self, keys: Any) -> Any:
        from jwt_middleware.types import SessionStatus

        return {key: SessionStatus(known=True, active=True) for key in keys}


_TOKEN = os.environ.get("BENCHMARK_TOKEN") or token()
os.environ["BENCHMARK_TOKEN"] = _TOKEN
if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
