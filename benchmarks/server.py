"""``python -m benchmarks.server NAME PORT TOKEN``: serve one contender, which must accept TOKEN."""

from __future__ import annotations

import os
import sys
from typing import Any

import uvicorn
from starlette.middleware import Middleware

from jwt_middleware import JWTSessionMiddleware, Revocation

from . import world
from .apps import PassThrough, bare
from .least import Least
from .peers import on_starlette


def app_of(name: str, token: str) -> Any:
    if name == "bare":
        return bare()
    if name == "ours":
        authority = world.authority(store=world.Everyone(), revocation=Revocation())
        return bare(Middleware(JWTSessionMiddleware, authority=authority, public=["/login", "/static/*"]))
    if name == "empty pass-through":
        return bare(Middleware(PassThrough))
    if name == "about the least there is to do":
        return bare(Middleware(Least, token=token))
    return on_starlette.peers("")[name].app


def main(name: str, port: int, token: str) -> None:
    world.quiet()
    if (os.cpu_count() or 1) > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})
    app = app_of(name, token)
    uvicorn.run(app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", log_level="error", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
