"""The VRAM limits that workers were sent."""

import logging
from collections.abc import Iterable, Mapping

from launcher.queue.home.paths import Home
from launcher.queue.store.rows import Claim
from launcher.queue.workers.memory_share import (
    VramLimit,
    read_share,
    write_share,
)

logger = logging.getLogger(__name__)


class VramLimitWriter:
    """The VRAM limits that workers know."""

    def __init__(self, home: Home) -> None:
        """Begin without having sent any; a scheduler before us may have."""
        self._home = home
        self._sent: dict[tuple[int, int], VramLimit] = {}  # by job and number of the attempt

    def send_limits(
        self, claims: Iterable[Claim], limits: Mapping[tuple[int, int], VramLimit]
    ) -> None:
        """Send workers the limits that they do not know yet; what cannot be written is tried again.

        Args:
            claims: the attempts that run.
            limits: limits of the jobs on GPUs.
        """
        sent = dict(limits)
        for claim in claims:
            key = claim.key
            if key not in limits:
                continue
            attempt, limit = self._home.attempt(*key), limits[key]
            before = self._sent.get(key) or read_share(attempt) or VramLimit()
            if limit != before:
                try:
                    write_share(attempt, cap=limit.cap, context=limit.context)
                except OSError as error:
                    logger.warning("job=%d share trouble=%r", claim.job, str(error))
                    sent[key] = before
        self._sent = sent
