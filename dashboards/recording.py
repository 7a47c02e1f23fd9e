"""Recording rules: the series that long panels, the alerts' averages over a day, and the verdict are computed from."""

from __future__ import annotations

from typing import Final

from jwt_middleware import names

from .promql import ERROR, OUTCOME, VERSION, label, select
from .verdict import VERDICT, evidence, verdict

REQUESTS: Final = "jwt_middleware:requests:rate5m"
REFUSED: Final = "jwt_middleware:refused:rate5m"
FALLBACKS: Final = "jwt_middleware:fallbacks:rate5m"
FALLBACK_CLAIMS: Final = "jwt_middleware:fallback_claims:rate5m"


def recordings() -> dict[str, str]:
    """Every recorded series and its expression; each is aggregated over all instances of a job."""
    by_request = f"job, {label(names.RESULT)}, {ERROR}, {VERSION}, {label(names.MINTED)}"
    by_claim = f"job, {label(names.CLAIM)}, {label(names.SOURCE)}, {OUTCOME}"
    refused = select(names.REQUESTS, f'{ERROR}!=""')
    return {
        REQUESTS: f"sum by ({by_request}) (rate({select(names.REQUESTS)}[5m]))",
        REFUSED: f"sum by (job, {ERROR}) (rate({refused}[5m]))",
        FALLBACKS: f"sum by (job, {VERSION}, {OUTCOME}) (rate({select(names.FALLBACKS)}[5m]))",
        FALLBACK_CLAIMS: f"sum by ({by_claim}) (rate({select(names.FALLBACK_CLAIMS)}[5m]))",
        **evidence(),
        VERDICT: verdict(),
    }
