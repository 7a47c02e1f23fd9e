"""Starts one run of the demo (database, providers, app, server, in this order), and always shuts it down again."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import uvicorn
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp

from .app import create_app
from .database import Database, url_of
from .deployment import Deployment
from .live_page import LiveFacts
from .settings import Settings
from .telemetry import RecentEvents, log_json, signals
from .traffic import client
from .watch import Watch

HOST: Final = "127.0.0.1"


class Unusable(Exception):
    """A setting cannot be used; the message is one line for the user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The parts of a running demo."""

    url: str
    http: httpx.AsyncClient
    database: Database
    deployment: Deployment
    watch: Watch
    log: Path
    password: str = field(repr=False)
    """The password of every user; each run has another."""


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Demo]:
    """Run the demo; the block begins when it can be reached at its URL.

    Raises:
        Unusable: The port, the database or the log file cannot be used.
    """
    password = secrets.token_urlsafe(9)
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo_app-")))
        log, events = settings.log or directory / "events.jsonl", RecentEvents()
        try:
            log_json(stack.enter_context(log.open("a", encoding="utf-8", buffering=1)), events)
        except OSError as error:
            raise Unusable(f"--log {log} cannot be written: {error.strerror}") from None
        listener = stack.enter_context(_listener(settings.port))
        database = await _prepared(settings, directory, password)
        stack.push_async_callback(database.aclose)
        providers = signals()
        stack.push_async_callback(asyncio.to_thread, providers.shutdown)
        deployment = Deployment(settings, database, providers.of_sessions)
        await deployment.store.create_all()
        stack.push_async_callback(deployment.aclose)
        port = listener.getsockname()[1]
        http = client(f"http://{HOST}:{port}")
        watch = Watch(settings, http)
        app = create_app(database, deployment, providers, LiveFacts(settings, deployment, watch, events))
        await stack.enter_async_context(_serving(app, listener))
        await stack.enter_async_context(http)
        yield Demo(
            url=f"http://localhost:{port}",
            http=http,
            database=database,
            deployment=deployment,
            watch=watch,
            log=log,
            password=password,
        )


async def _prepared(settings: Settings, directory: Path, password: str) -> Database:
    """The database with its users. Drivers quote addresses and passwords, so errors name only their class."""
    try:
        database = Database(url_of(settings.database, directory))
    except (SQLAlchemyError, ImportError) as error:
        raise Unusable(f"--database cannot be used ({type(error).__name__})") from None
    try:
        await database.prepare(settings.users, password)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        await database.aclose()
        raise Unusable(f"--database does not answer ({type(error).__name__})") from None
    return database


@contextlib.contextmanager
def _listener(port: int) -> Iterator[socket.socket]:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise Unusable(f"--port {port} cannot be used ({error.strerror}); 0 takes a free one") from None
        yield listener
    finally:
        listener.close()


class _Server(uvicorn.Server):
    """A server without signal handlers: :mod:`demo_app.run` handles signals, and ends the users first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def _serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", server_header=False, timeout_graceful_shutdown=2
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not (server.started or task.done()):  # noqa: ASYNC110 - uvicorn has only this flag
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task
