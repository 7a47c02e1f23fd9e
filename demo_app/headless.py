"""The run without a terminal: a line for each twentieth of the window, then a report as one JSON object.

The report compares what the users counted with what the metrics say and what the database contains.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from time import time
from typing import Any

from jwt_middleware import Reason, names

from .server import Demo
from .settings import Settings
from .terminal import line
from .traffic import Counts, Traffic
from .watch import OLD, TODAY, Figures, Scrape, Watch

INTERRUPTED = 130


async def headless(settings: Settings, demo: Demo, traffic: Traffic, watch: Watch, stop: asyncio.Event) -> int:
    """Run until the last fallback must have fired, and print the report; exit code 0 without failures, else 1."""
    while (left := demo.deployment.planned + settings.drained_by - time()) > 0 and not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), min(left, settings.tick))
        figures = watch.figures()
        if figures is not None:
            print(line(figures), flush=True)
    if stop.is_set():
        return INTERRUPTED
    await traffic.end()
    report = await _report(settings, demo, traffic, watch)
    print(json.dumps(report.content()), flush=True)
    return 1 if report.failures else 0


async def _report(settings: Settings, demo: Demo, traffic: Traffic, watch: Watch) -> Report:
    """The report after the last request."""
    scrape = await watch.scrape()
    figures = watch.figures()
    assert figures is not None  # noqa: S101 - there was a scrape just now
    saved, by_unknown = await demo.database.saved()
    return Report(
        settings=settings,
        released_at=demo.deployment.released_at,
        counts=traffic.counts,
        scrape=scrape,
        figures=figures,
        saved=saved,
        saved_by_unknown=by_unknown,
    )


def counted_by_users(counts: Counts) -> dict[str, int]:
    """What the users counted; the metrics must have the same counts."""
    return {
        "accepted_v1": counts.accepted[OLD],
        "accepted_v2": counts.accepted[TODAY],
        "fallbacks": counts.fallbacks,
        "expired": counts.expired,
        "refused": counts.refused.total(),
        "issued_v1": counts.logins[OLD],
        "issued_v2": counts.logins[TODAY],
        "revoked": counts.logouts,
    }


def counted_by_metrics(scrape: Scrape) -> dict[str, int]:
    """The same counts from one scrape."""
    refused = {names.RESULT: "refused"}
    expired = scrape.total(names.REQUESTS, {**refused, names.ERROR_TYPE: Reason.TOKEN_EXPIRED.value})

    def accepted(version: int) -> float:
        return scrape.total(names.REQUESTS, {names.RESULT: "accepted", names.PAYLOAD_VERSION: version})

    def issued(version: int) -> float:
        return scrape.total(names.TOKENS_ISSUED, {names.PAYLOAD_VERSION: version})

    counts = {
        "accepted_v1": accepted(OLD),
        "accepted_v2": accepted(TODAY),
        "fallbacks": scrape.total(names.FALLBACKS),
        "expired": expired,
        "refused": scrape.total(names.REQUESTS, refused) - expired,
        "issued_v1": issued(OLD),
        "issued_v2": issued(TODAY),
        "revoked": scrape.total(names.SESSIONS_REVOCATIONS),
    }
    return {name: int(value) for name, value in counts.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The facts about a finished run."""

    settings: Settings
    released_at: float | None
    counts: Counts
    scrape: Scrape
    figures: Figures
    saved: int
    """Rows that the users saved."""
    saved_by_unknown: int
    """Rows of them whose email is no user's."""

    @property
    def failures(self) -> list[str]:
        """One sentence for each promise that the run broke."""
        return list(self._failures())

    def content(self) -> dict[str, Any]:
        """The report as a JSON object."""
        figures, released = self.figures, self.released_at
        last = figures.last_fallback
        return {
            "ok": not self.failures,
            "failures": self.failures,
            "window_s": self.settings.window,
            "requests": figures.requests,
            "old_share": _rounded(figures.old_share),
            "fallbacks": figures.fallbacks,
            "fallback_rate": _rounded(figures.fallback_rate),
            "last_fallback_after_release_s": None if last is None or released is None else round(last - released, 2),
            "zero_wanted_after_release_s": round(self.settings.drained_by, 2),
            "users_refused": self.counts.refused.total(),
            "without_email": self.counts.without_email,
            "saved": self.saved,
            "saved_by_unknown": self.saved_by_unknown,
            "verdict": figures.verdict.value,
            "traffic": counted_by_users(self.counts),
            "metrics": counted_by_metrics(self.scrape),
        }

    def _failures(self) -> Iterator[str]:
        counts, figures = self.counts, self.figures
        for request, times in sorted(counts.refused.items()):
            yield f"users with valid tokens were refused: {request} ({times} times)"
        if counts.failures:
            yield f"{counts.failures} requests had no response"
        if counts.without_email:
            yield f"{counts.without_email} requests did not see the user's email"
        if self.saved != counts.saves or self.saved_by_unknown:
            yield f"{counts.saves} saves, {self.saved} rows, {self.saved_by_unknown} of them with an unknown email"
        yield from self._failures_of_the_migration()
        users, metrics = counted_by_users(counts), counted_by_metrics(self.scrape)
        for name in users:
            if users[name] != metrics[name]:
                yield f"{name}: the users counted {users[name]}, the metrics say {metrics[name]}"
        if not figures.accepted:
            yield "no request was accepted"

    def _failures_of_the_migration(self) -> Iterator[str]:
        released, figures = self.released_at, self.figures
        if released is None:
            yield "there was no release"
            return
        if figures.last_fallback is None or figures.last_fallback <= released:
            yield "the fallback did not fire after the release"
        elif figures.last_fallback > released + self.settings.drained_by:
            yield "the fallback still fired after the window plus a tenth"
        if figures.fallback_rate is None:
            yield "no request was accepted at the end: no data is not zero"
        elif figures.fallback_rate > 0:
            yield "the fallback's rate did not reach zero"


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
