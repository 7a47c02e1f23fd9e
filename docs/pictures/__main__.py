"""``python -m docs.pictures [DIRECTORY]``: the live page on its sixth day and the panels, light and dark."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from . import drawing, live_page, panels

directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
directory.mkdir(parents=True, exist_ok=True)
asyncio.run(live_page.take(directory))
drawing.save(panels.simulated(), directory)
