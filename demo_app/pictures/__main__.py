"""``python -m demo_app.pictures [DIRECTORY]``: the live page on its sixth day, and the panels; light and dark."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from . import page, panels

wanted = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")
wanted.mkdir(parents=True, exist_ok=True)
asyncio.run(page.take(wanted))
panels.take(wanted)
