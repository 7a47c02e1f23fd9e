"""A real Chromium for the pictures and the tests: Debian's, without a screen, and without calls home."""

from __future__ import annotations

import shutil
from typing import Final

ARGUMENTS: Final = (
    "--no-sandbox",  # containers run as root; the only pages it opens are the demo's own
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str:
    """Its path.

    Raises:
        FileNotFoundError: It is not installed.
    """
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise FileNotFoundError("install Chromium first: apt-get install chromium")
    return found
