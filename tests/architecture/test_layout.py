"""The layout of the package: docs/architecture.md describes the rooms, floors and names that exist."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "jwt_middleware"
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text("utf-8")) for path in FILES}
WORDS = re.findall(
    r"\w+",
    "cookie bearer csrf path verify sign key jwks login logout revoke renew claim schema fallback source database "
    "metric log span config websocket",
)
"""The everyday words that a newcomer looks for."""
ROW = re.compile(r"^\| (\w+) \| `([\w/]+\.py)` \| (.*) \|$", re.MULTILINE)
"""A row of the index "Where is …": a word, its file, and names in it."""
LONG_FUNCTIONS = {
    "SessionAuthority.__init__": "each of its 22 settings stands there with type and default, and once more by name",
    "build": "one straight list: which part of an authority gets what",
}
"""The functions of more than 40 lines, each with its reason."""


def section(title: str) -> str:
    return PAGE.split(f"## {title}")[1].split("\n## ")[0]


def module(path: Path) -> str:
    """The name of a module below the package: ``tokens.jws``; of the package itself ``""``."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {module(path): path for path in FILES}


@cache
def imports(name: str) -> frozenset[str]:
    """The modules of the package that a module imports when it is imported."""

    def imported(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            is_typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            if isinstance(node, (ast.If, ast.Try)) and not is_typing_only:
                yield from imported(node.body)
            elif isinstance(node, ast.ImportFrom) and node.level:
                package = MODULES[name].relative_to(PACKAGE).parent.parts
                base = [*package[: len(package) + 1 - node.level], *filter(None, [node.module])]
                for alias in node.names:
                    submodule = ".".join([*base, alias.name])
                    yield submodule if submodule in MODULES else ".".join(base)

    return frozenset(imported(TREES[MODULES[name]].body)) - {name}


@cache
def chain(name: str) -> tuple[str, ...]:
    """The longest chain of imports from a module down."""
    return (name, *max(map(chain, imports(name)), key=len, default=()))


def floors() -> list[set[str]]:
    """The rooms of each floor of the import contract, the highest first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [layers] = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [set(layer.split(" | ")) for layer in layers]


def defined(path: Path) -> set[str]:
    """The classes, functions and methods of a file, methods also as ``Class.method``."""
    names = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{member.name}" for member in node.body if hasattr(member, "name")}
    return names


def test_the_folder_has_few_entries() -> None:
    assert len([path for path in PACKAGE.iterdir() if path.name != "__pycache__"]) <= 22


def test_every_room_and_module_stands_on_the_page() -> None:
    tree = re.findall(r"^([a-z].*)$", section("The rooms").split("```")[3], re.MULTILINE)
    listed = set()
    for line in tree:
        folder, _, names = line.partition("/ ")
        if names:
            listed |= {folder, *(f"{folder}.{name}" for name in names.strip().split(", "))}
        else:
            listed |= {name.removesuffix(".py") for name in re.findall(r"\w+\.py", line)}
    assert listed == {*MODULES} - {"", "__main__"}


def test_the_floors_on_the_page_are_those_of_the_contract() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", section("The rooms"), re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == floors()


def test_no_import_goes_up() -> None:
    floor = {room: number for number, rooms in enumerate(floors()) for room in rooms}
    rooms = {name: name.partition(".")[0] for name in MODULES if name}
    for name, room in rooms.items():
        for other in imports(name) - {""}:
            assert rooms[other] == room or floor[rooms[other]] > floor[room], f"{name} imports {other}"


def test_the_longest_chain_of_imports_is_short() -> None:
    longest = max(map(chain, MODULES), key=len)
    assert len(longest) <= 14, longest


def test_an_everyday_word_finds_its_file_by_name() -> None:
    paths = [path.relative_to(PACKAGE).as_posix() for path in FILES]
    assert len([word for word in WORDS if any(word in path for path in paths)]) >= 16


def test_the_index_leads_every_everyday_word_to_names_that_exist() -> None:
    rows = ROW.findall(section("Where is …"))
    assert {word for word, _, _ in rows} == set(WORDS)
    for word, file, text in rows:
        names = set(re.findall(r"`([\w.]+)`", text))
        assert names, word
        assert names <= defined(PACKAGE / file), file


def test_every_file_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`([\w/]+(?:/|\.(?:py|md|txt|toml)))`", PAGE)) - {"cli/NAME.py"}
    assert len(named) > 80
    assert {name for name in named if not (ROOT / name).exists() and not (PACKAGE / name).exists()} == set()


def test_functions_have_at_most_forty_lines_or_a_reason() -> None:
    long = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef)):
                prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
                for function in node.body:
                    if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                        lines = (function.end_lineno or 0) - function.lineno + 1
                        long |= {f"{prefix}{function.name}"} if lines > 40 else set()
    assert long == set(LONG_FUNCTIONS)


def test_nothing_points_outside_of_the_repository() -> None:
    outside = re.compile(r"\bcontracts" r"/|\bDESIGN" r"\b|\.\./" r"shared|/work" r"/")
    texts = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".txt", ""}
    folders = ["jwt_middleware", "tests", "docs", "dashboards", "demo_app", "benchmarks", ".ci"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")] + list(ROOT.glob("*"))
    for path in files:
        is_source = path.suffix in texts and not path.name.startswith((".git", ".coverage"))
        if path.is_file() and is_source and path != Path(__file__):
            assert not outside.search(path.read_text("utf-8")), path
