"""Ringing after a commit: a bell that Redis does not take is counted, and the sweep rings it."""

from app.broker.message import Bell
from app.broker.ring import Ringer
from app.observability import metrics


def ring(ringer: Ringer, bell: Bell) -> None:
    """Ring, whether or not somebody can hear it."""
    if not ringer.ring(bell):
        metrics.SIGNAL_UNHEARD.inc()
