"""Whether a run kept its promises: what the users counted, what the metrics say, and what the database holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jwt_middleware import Reason, names

from .scrape import Scrape
from .settings import Settings
from .traffic import Counts
from .watch import OLD, TODAY, Figures


def seen_by_users(counts: Counts) -> dict[str, int]:
    """What the metrics must say too, to the last one."""
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


def seen_by_prometheus(scrape: Scrape) -> dict[str, int]:
    """The same, from one scrape."""
    refused = {names.RESULT: "refused"}
    expired = scrape.total(names.REQUESTS, {**refused, names.ERROR_TYPE: Reason.TOKEN_EXPIRED.value})

    def accepted(version: int) -> float:
        return scrape.total(names.REQUESTS, {names.RESULT: "accepted", names.PAYLOAD_VERSION: version})

    def issued(version: int) -> float:
        return scrape.total(names.TOKENS_ISSUED, {names.PAYLOAD_VERSION: version})

    found = {
        "accepted_v1": accepted(OLD),
        "accepted_v2": accepted(TODAY),
        "fallbacks": scrape.total(names.FALLBACKS),
        "expired": expired,
        "refused": scrape.total(names.REQUESTS, refused) - expired,
        "issued_v1": issued(OLD),
        "issued_v2": issued(TODAY),
        "revoked": scrape.total(names.SESSIONS_REVOCATIONS),
    }
    return {name: int(value) for name, value in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Everything about a finished run."""

    settings: Settings
    released_at: float | None
    counts: Counts
    scrape: Scrape
    figures: Figures
    saved: int
    """Rows of what users saved."""
    saved_by_nobody: int
    """Those of them whose email is no user's."""

    @property
    def failures(self) -> list[str]:
        """One sentence for each promise that was not kept."""
        return list(self._failures())

    def report(self) -> dict[str, Any]:
        """The last line of a headless run, as JSON object."""
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
            "honest_users_refused": self.counts.refused.total(),
            "without_email": self.counts.without_email,
            "saved": self.saved,
            "saved_by_nobody": self.saved_by_nobody,
            "verdict": figures.verdict.value,
            "traffic": seen_by_users(self.counts),
            "metrics": seen_by_prometheus(self.scrape),
        }

    def _failures(self) -> Iterator[str]:
        counts, figures = self.counts, self.figures
        for what, times in sorted(counts.refused.items()):
            yield f"honest users were refused: {what} ({times} times)"
        if counts.failures:
            yield f"{counts.failures} requests had no answer"
        if counts.without_email:
            yield f"{counts.without_email} requests did not see the user's email"
        if self.saved != counts.saves or self.saved_by_nobody:
            yield f"{counts.saves} saves, {self.saved} rows, {self.saved_by_nobody} of them by nobody who exists"
        yield from self._of_the_migration()
        seen, told = seen_by_users(counts), seen_by_prometheus(self.scrape)
        for name in seen:
            if seen[name] != told[name]:
                yield f"{name}: the users counted {seen[name]}, the metrics say {told[name]}"
        if not figures.accepted:
            yield "no request was accepted"

    def _of_the_migration(self) -> Iterator[str]:
        released, figures = self.released_at, self.figures
        if released is None:
            yield "there was no release"
            return
        if figures.last_fallback is None or figures.last_fallback <= released:
            yield "the fallback did not fire after the release"
        elif figures.last_fallback > released + self.settings.drained_by:
            yield "the fallback still fired after the window plus a tenth"
        if figures.fallback_rate is None:
            yield "nothing was accepted at the end: no data is not zero"
        elif figures.fallback_rate > 0:
            yield "the fallback's rate did not reach zero"


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
