from __future__ import annotations

import asyncio
from pathlib import Path

from demo_app.pictures import NAMES, take
from demo_app.settings import Settings


def test_the_pictures_show_the_page_in_the_light_and_in_the_dark(tmp_path: Path) -> None:
    asyncio.run(take(tmp_path, Settings(window=10, port=0, users=5, rate=5), day=1))
    pictures = {name: (tmp_path / name).read_bytes() for name in NAMES.values()}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(pictures)
    for picture in pictures.values():
        assert picture.startswith(b"\x89PNG")
        assert (int.from_bytes(picture[16:20]), int.from_bytes(picture[20:24])) == (1240, 960)
        assert 50_000 < len(picture) < 300_000
    assert len(set(pictures.values())) == 2
