"""``python -m dashboards``: write ``generated/`` anew."""

from __future__ import annotations

import sys

from . import GENERATED, rules
from .authentication import authentication
from .cost import cost
from .migration import migration


def files() -> dict[str, str]:
    """What is generated: names and texts."""
    boards = [build() for build in (migration, authentication, cost)]
    return {**{f"{board.uid}.json": board.text() for board in boards}, "jwt-rules.yaml": rules.text()}


def main() -> int:
    GENERATED.mkdir(exist_ok=True)
    written = files()
    for stale in {path.name for path in GENERATED.iterdir()} - set(written):
        (GENERATED / stale).unlink()
    for name, text in written.items():
        (GENERATED / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
