"""docs/reference.md lists every public name once, with the arguments of each call, and no other name."""

from __future__ import annotations

import inspect
import re

import jwt_middleware
from jwt_middleware import Key, SessionAuthority, admin, sqlalchemy, testing
from tests.support.processes import ROOT

PAGE = (ROOT / "docs" / "reference.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
CALLS = {"Calls of SessionAuthority": SessionAuthority, "Constructors of Key": Key}


def listed(text: str) -> list[str]:
    """What stands in backticks in the first column of a section's table."""
    return [name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)]


def arguments_of(member: object) -> list[str]:
    """The names of a method's arguments, without ``self``; a property has none."""
    return [name for name in inspect.signature(member).parameters if name != "self"] if callable(member) else []


def test_every_public_name_stands_there_once_and_no_other_name() -> None:
    documented = [name for title, text in SECTIONS.items() if title not in CALLS for name in listed(text)]
    helpers = {name for name, helper in vars(testing).items() if getattr(helper, "__module__", "") == testing.__name__}
    modules = {module.__name__ for module in (admin, sqlalchemy, testing)}
    assert len(set(documented)) == len(documented)
    assert set(documented) == {*jwt_middleware.__all__, *sqlalchemy.__all__, *admin.__all__, *helpers, *modules}


def test_every_call_stands_there_with_its_arguments() -> None:
    for title, owner in CALLS.items():
        calls = [call.removeprefix("await ").removeprefix("Key.").partition("(") for call in listed(SECTIONS[title])]
        documented = {name: re.findall(r"\w+", arguments) for name, _, arguments in calls}
        assert len(documented) == len(calls)
        assert documented == {
            name: arguments_of(getattr(owner, name))
            for name, member in vars(owner).items()
            if not name.startswith("_") and (owner is SessionAuthority or isinstance(member, classmethod))
        }
