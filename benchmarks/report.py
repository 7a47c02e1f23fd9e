"""The report as Markdown, and as text for a terminal."""

from __future__ import annotations

from typing import Any


def markdown(report: dict[str, Any]) -> str:
    machine, lines = report["machine"], _lines(report)
    text = [
        "# Results",
        f"Measured {report['when']} in {report['seconds']} s on {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['system']}, Python {machine['python']}, load {machine['load']} before. Figures are medians of "
        "interleaved rounds, with the middle half of the rounds beside them; written by `python -m benchmarks`.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in report["versions"].items()) + ".",
        "## The budget",
        _table([_budget(line) for line in lines]),
    ]
    for section in report["sections"].values():
        for table in section["tables"]:
            text += [f"## {table['title']}", table["note"], _table(table["rows"])]
    return "\n\n".join(text) + "\n"


def plain(report: dict[str, Any]) -> str:
    """The tables without the prose."""
    text = []
    for section in report["sections"].values():
        for table in section["tables"]:
            text += [f"\n{table['title']}", *_columns(table["rows"])]
    return "\n".join([*text, "\nThe budget", *_columns([_budget(line) for line in _lines(report)])])


def _lines(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [line for section in report["sections"].values() for line in section["lines"]]


def _budget(line: dict[str, Any]) -> dict[str, str]:
    return {
        "what": line["what"],
        "budget": line["budget"],
        "measured": line["measured"],
        "middle half": line["spread"],
        "met": "yes" if line["met"] else "**no**",
    }


def _names(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _table(rows: list[dict[str, Any]]) -> str:
    names = _names(rows)
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(str(row.get(name, "")) for name in names) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    names = _names(rows)
    cells = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(names))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
