"""The row of Authentication on keys and leniencies: what is still in use, and what may be removed."""

from __future__ import annotations

from jwt_middleware import names

from .board import Board
from .panels import GREEN, RED, Query, curve, hourly, listing, seen, steps
from .promql import OUTCOME, label


def keys(board: Board) -> None:
    key, rule = label(names.KEY_ID), label(names.RULE)
    board.row("Keys and leniencies: what may be removed?")
    board.add(
        curve(
            "Tokens verified by key",
            "In the hour before; a token is verified when it is first seen. Good after a rotation: the old key falls "
            "to zero within the life of a token.",
            Query(f"sum by ({key}) ({hourly(names.VERIFICATIONS)})", f"{{{{{key}}}}}"),
            unit="short",
        ),
        width=8,
    )
    board.add(
        listing(
            "Keys in eight days",
            "Tokens verified by each key in the life of a token and a day. 0: the key may be removed, if metrics were "
            "there all the time (see the verdict's word unproven). other: a kid that no configured key has.",
            Query(f"sum by ({key}) (increase({seen(names.VERIFICATIONS)}[8d]))"),
            unit="short",
            columns={key: "key", "Value": "tokens"},
        ),
        width=4,
    )
    board.add(
        listing(
            "Leniencies in eight days",
            "Requests that needed each rule of the adoption. 0: its line may be deleted.",
            Query(f"sum by ({rule}) (increase({seen(names.ADOPTIONS)}[8d]))"),
            unit="short",
            columns={rule: "rule", "Value": "requests"},
        ),
        width=4,
    )


def remote_keys(board: Board) -> None:
    board.add(
        curve(
            "Age of the remote keys",
            "Only with remote keys. Good: minutes. More than an hour: the key endpoint cannot be fetched "
            "(JwtKeySetStale).",
            Query(f"time() - max by (instance) ({seen(names.JWKS_LAST_SUCCESS)})", "{{instance}}"),
            unit="s",
            thresholds=steps((None, GREEN), (3600, RED)),
        ),
        width=4,
    )
    board.add(
        curve(
            "Fetches of remote keys",
            "Only with remote keys, in the hour before, by outcome. Good: all ok. Many: somebody sends unknown kids.",
            Query(f"sum by ({OUTCOME}) ({hourly(names.JWKS_FETCHES)})", f"{{{{{OUTCOME}}}}}"),
            unit="short",
        ),
        width=4,
    )
