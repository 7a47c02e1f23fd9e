"""``python -m dashboards``: write ``generated/``."""

from __future__ import annotations

import sys

from . import GENERATED, rules
from .grafana.authentication import authentication
from .grafana.cost import cost
from .grafana.migration import migration


def files() -> dict[str, str]:
    """The generated files: names and texts."""
    boards = [build() for build in (migration, authentication, cost)]
    return {**{f"{board.uid}.json": board.text() for board in boards}, "jwt-rules.yaml": rules.text()}


def main() -> int:
    """Write the files, and delete those that are no longer generated; the exit code."""
    GENERATED.mkdir(exist_ok=True)
    texts = files()
    for stale in {path.name for path in GENERATED.iterdir()} - set(texts):
        (GENERATED / stale).unlink()
    for name, text in texts.items():
        (GENERATED / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
