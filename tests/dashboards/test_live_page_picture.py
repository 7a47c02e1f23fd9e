"""The README's pictures of the live page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from demo_app.settings import Settings
from docs.pictures import drawing
from docs.pictures.live_page import NAMES, take

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.server
async def test_the_pictures_show_the_page_in_light_and_dark(tmp_path: Path) -> None:
    await take(tmp_path, Settings(window=10, port=0, users=5, rate=5), day=1)
    pictures = {name: (tmp_path / name).read_bytes() for name in NAMES.values()}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(pictures)
    for picture in pictures.values():
        assert picture.startswith(b"\x89PNG")
        assert (int.from_bytes(picture[16:20]), int.from_bytes(picture[20:24])) == (1240, 960)
        assert 50_000 < len(picture) < 300_000
    assert len(set(pictures.values())) == 2


def test_the_readme_shows_the_pictures_of_make_pictures() -> None:
    made = {*NAMES.values(), *drawing.NAMES.values()}
    assert set(re.findall(r"docs/pictures/([^\s\")]+)", README)) == made
    assert {path.name for path in (ROOT / "docs" / "pictures").glob("*.png")} == made


@pytest.mark.parametrize("names", [NAMES, drawing.NAMES])
def test_the_readme_has_a_light_and_a_dark_picture(names: dict[str, str]) -> None:
    [element] = [each for each in re.findall(r"<picture>.*?</picture>", README, re.DOTALL) if names["light"] in each]
    assert f'<source media="(prefers-color-scheme: dark)" srcset="docs/pictures/{names["dark"]}">' in element
    assert re.search(rf'<img src="docs/pictures/{names["light"]}" width="\d+" alt="[^"]{{20,}}">', element)
