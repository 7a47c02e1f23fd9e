"""Keys that live at a URL, read from a snapshot and fetched beside the requests.

PyJWT's own client blocks the event loop and forgets good keys when a fetch fails. Here a request waits only where no
usable snapshot exists yet, or where its ``kid`` is new; whatever a fetch brings that is no key set changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from math import inf
from typing import Final

from .. import names
from ..counters import Counters
from ..errors import ConfigError, Reason, Refusal, refuse_numbers
from ..protocols import Clock, SystemClock
from .jwks_fetch import KeySet, NoKeySet, download, location, read, trust
from .keys import Key

FETCH_OUTCOMES: Final = ("ok", "invalid", "timeout", "error")
"""A key set; an answer that is none; none in time; none at all."""
ASK_EVERY: Final = 30.0
"""Seconds between two fetches that an unknown ``kid`` may cause."""
_LONGEST_PAUSE: Final = 30.0


class RemoteKeys:
    """The keys of an issuer elsewhere. The authority needs ``issuer`` and ``audience`` too: many may trust that issuer.

    Known keys answer at once, from a snapshot that is renewed in the background. A key that left the set verifies
    nothing from the moment the set without it arrives. Secrets, private keys, keys meant for encryption and keys that
    are too weak are passed over, as is every key after the first of the same ``kid``.

    Args:
        url: https, or http to this machine; redirects are not followed and proxies of the environment not used.
        signing: A key pair with a ``kid``, for who mints too; its public half must be in the set.
        refresh_every: How often the set is fetched, and how long before its first use a new key should be published.
        usable_for: How long a snapshot is used while nothing newer can be had; after that 503. It is renewed at the
            latest after half of this.
        timeout: Of a whole fetch; a request without a usable snapshot waits no longer.
        rsa_alg: The algorithm of RSA keys that name none.
        tls: Instead of the certificate authorities httpx brings.

    Raises:
        ConfigError: The message says how to mend it.
    """

    def __init__(
        self,
        url: str,
        *,
        signing: Key | None = None,
        refresh_every: timedelta = timedelta(minutes=5),
        usable_for: timedelta = timedelta(hours=1),
        timeout: timedelta = timedelta(seconds=5),
        rsa_alg: str = "RS256",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        refuse_numbers(refresh_every=refresh_every, usable_for=usable_for, timeout=timeout)
        if min(refresh_every, usable_for, timeout) <= timedelta(0):
            raise ConfigError("refresh_every, usable_for and timeout must be positive: 5 min, 1 h and 5 s are usual")
        if signing is not None and (not signing.can_sign or signing.symmetric or signing.kid is None):
            raise ConfigError("signing is a private key with the kid of its public half: Key.pem(…, kid=…)")
        if rsa_alg not in {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}:
            raise ConfigError("rsa_alg is the algorithm of RSA keys that name none: use RS256 to PS512")
        self.signing: Final = signing
        self._url: Final = location(url)
        self._every: Final = min(refresh_every, usable_for / 2).total_seconds()
        self._usable_for: Final = usable_for.total_seconds()
        self._timeout: Final = timeout.total_seconds()
        self._rsa_alg: Final = rsa_alg
        self._tls: Final = tls or trust()
        self._clock: Clock = SystemClock()
        self._set: KeySet | None = None
        self._asked_at = -inf
        """The monotonic moment at which the fetch of that set began."""
        self._dated: float | None = None
        """The same moment by the wall clock."""
        self._failures = 0
        self._due = self._ask_at = -inf
        self._fetching: Future[None] | None = None
        self._given_up_at = -inf
        self._task: asyncio.Task[None] | None = None
        self._timer: object = None
        self._fetches: tuple[list[int], Mapping[str, int]] | None = None
        self._forget: Final[list[weakref.WeakMethod[Callable[[], None]]]] = []

    @property
    def keys(self) -> Sequence[Key]:
        """The usable keys of the set as it was last seen."""
        return () if self._set is None else self._set.ring.keys

    @property
    def usable_until(self) -> float:
        """The monotonic moment until which the snapshot may be used."""
        return self._asked_at + self._usable_for

    def find(self, kid: str | None, alg: str) -> Sequence[Key]:
        """The keys that may have signed a token with this header, from the snapshot.

        Raises:
            Refusal: ``key_unknown``, ``algorithm_mismatch``, or ``keys_unavailable`` where no snapshot is usable.
        """
        now = self._clock.monotonic()
        if now >= self._due:
            self._start(now)
        if self._set is None or now >= self.usable_until:
            raise Refusal(Reason.KEYS_UNAVAILABLE)
        return self._set.ring.find(kid, alg)

    async def refresh(self, kid: str | None) -> bool:
        """Wait for a fetch, and start one where it is allowed; True where a newer set came."""
        before, now = self._set, self._clock.monotonic()
        fetch, usable = self._running(now), now < self.usable_until
        if fetch is None and now >= (self._ask_at if usable else self._due):
            fetch = self._start(now)
            if usable:
                self._ask_at = now + ASK_EVERY
        if fetch is not None:
            await asyncio.wait([asyncio.wrap_future(fetch)], timeout=self._timeout)
            if all(key.kid != kid for key in self.keys):
                self._ask_at = now + ASK_EVERY
        return self._set is not before

    def attach(self, *, clock: Clock, counters: Counters, forget: Callable[[], None]) -> None:
        """An authority verifies with these keys from now on; where several share them, the first one's clock rules.

        Args:
            clock: Of the authority.
            counters: Declare the metrics; fetches are counted by the first authority alone.
            forget: A bound method, held weakly; called after a key left, to clear what was cached from it.
        """
        cells = {outcome: counters.counter(names.JWKS_FETCHES, {names.OUTCOME: outcome}) for outcome in FETCH_OUTCOMES}
        if self._fetches is None:
            self._fetches, self._clock = (counters.counts, cells), clock
        counters.gauge(names.JWKS_LAST_SUCCESS, lambda: self._dated)
        self._forget.append(weakref.WeakMethod(forget))

    def open(self) -> None:
        """Fetch in the background from now on, so that the first request need not wait; a no-op outside event loops."""
        now = self._clock.monotonic()
        if now >= self._due:
            self._start(now)
        else:
            with contextlib.suppress(RuntimeError):
                self._set_timer(now)

    async def aclose(self) -> None:
        """End what runs in the background; whoever uses the keys afterwards starts it again."""
        self._timer = None
        task = self._task
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])

    def _running(self, now: float) -> Future[None] | None:
        """The fetch in flight; one that a dead event loop, or the parent of this process, left behind is none."""
        return self._fetching if now < self._given_up_at else None

    def _start(self, now: float) -> Future[None] | None:
        """The fetch in flight, begun now if there was none; None outside an event loop."""
        fetch = self._running(now)
        if fetch is None:
            with contextlib.suppress(RuntimeError):
                loop = asyncio.get_running_loop()
                fetch = self._fetching = Future()
                fetch.set_running_or_notify_cancel()  # a request that ends while it waits does not cancel it
                self._given_up_at = now + 2 * self._timeout
                self._task = loop.create_task(self._fetch(now))
                self._task.add_done_callback(partial(self._settle, fetch))
        return fetch

    async def _fetch(self, now: float) -> None:
        """One fetch. The errors of httpx, TLS and DNS end here: they may quote what was sent, the count says enough."""
        try:
            async with asyncio.timeout(self._timeout):
                body = await download(self._url, self._tls)
            self._adopt(read(body, self._rsa_alg), now)
        except TimeoutError:
            self._ended("timeout")
        except NoKeySet:
            self._ended("invalid")
        except Exception:
            self._ended("error")
        else:
            self._ended("ok")

    def _settle(self, fetch: Future[None], _: asyncio.Task[None]) -> None:
        """The fetch is over, and if it was cancelled before it began."""
        if self._fetching is fetch:
            self._fetching = None
        fetch.set_result(None)

    def _adopt(self, found: KeySet, now: float) -> None:
        before, self._set = self._set, found
        self._asked_at = now
        self._dated = self._clock.now() - (self._clock.monotonic() - now)
        if before is not None and not found.keeps(before):
            for method in self._forget:
                if (forget := method()) is not None:
                    forget()

    def _ended(self, outcome: str) -> None:
        """Count it, and say when the next one is due: after failures in 1, 2, 4 … 30 s, unless the set is fresh."""
        if self._fetches is not None:
            cells, places = self._fetches
            cells[places[outcome]] += 1
        now, fresh_until = self._clock.monotonic(), self._asked_at + self._every
        if outcome == "ok":
            self._failures, self._due = 0, fresh_until
        else:
            pause = min(2.0 ** min(self._failures, 10), _LONGEST_PAUSE)
            self._failures, self._due = self._failures + 1, max(fresh_until, now + pause)
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        """Fetch again when it is due, while this loop runs; only the newest timer does anything, and none keeps us."""
        self._timer = timer = object()
        rung = weakref.WeakMethod(self._rung)
        asyncio.get_running_loop().call_later(
            max(0.0, self._due - now), lambda: None if (fetch := rung()) is None else fetch(timer)
        )

    def _rung(self, timer: object) -> None:
        if timer is self._timer:
            self._start(self._clock.monotonic())

    def __repr__(self) -> str:
        return f"RemoteKeys({self._url.scheme}://{self._url.netloc.decode()}{self._url.path})"
