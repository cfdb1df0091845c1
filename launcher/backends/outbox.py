"""The news that a pilot has not written yet."""

import logging
from collections.abc import Iterable
from math import inf
from pathlib import Path

from launcher.backends.channel import Writer
from launcher.backends.pilot_messages import Beat, Ended, News, news_line

logger = logging.getLogger(__name__)


RETRY_S = 1.0  # before what could not be written is tried again


class Outbox:
    """News that are still to be written, the oldest first; of beats only the newest."""

    def __init__(self, path: Path) -> None:
        """Begin with none, for a file that is there."""
        self._writer = Writer(path)
        self._news: list[News] = []
        self._again_at = 0.0  # monotonic
        self.trouble = ""  # why the newest could not be written

    def __bool__(self) -> bool:
        return bool(self._news)

    @property
    def holds_ends(self) -> bool:
        """Whether an end is among them, which the scheduler must learn."""
        return any(isinstance(news, Ended) for news in self._news)

    def add(self, news: Iterable[News]) -> None:
        """Put news behind those that wait."""
        for item in news:
            if isinstance(item, Beat):
                self._news = [other for other in self._news if not isinstance(other, Beat)]
            self._news.append(item)

    def send(self, now: float) -> None:
        """Write what waits; line by line while there is trouble, so that what fits is written once.

        Args:
            now: monotonic seconds.
        """
        if not self._news or now < self._again_at:
            return
        try:
            while self._news:
                count = 1 if self.trouble else len(self._news)
                self._writer.append(*map(news_line, self._news[:count]))
                del self._news[:count]
        except OSError as error:
            if self.trouble != str(error):
                logger.warning("messages cannot be written now: %s", error)
            self.trouble, self._again_at = str(error), now + RETRY_S
        else:
            self.trouble = ""

    def due_s(self, now: float) -> float:
        """Return how long until something is tried again; infinite: nothing waits."""
        return max(0.0, self._again_at - now) if self._news else inf
