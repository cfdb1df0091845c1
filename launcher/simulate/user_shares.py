"""Who has used how much of a simulated machine of late: by that its users take turns."""

from launcher.accounts import HALF_LIFE_S


class DecayedUse:
    """Card-seconds of each user, of which half count no more after a day, as schedulers tell each other."""

    def __init__(self) -> None:
        """Begin without any."""
        self._ended: dict[str, float] = {}
        self._since: float = 0.0  # to which time these have decayed
        self._running: dict[int, tuple[str, int, float]] = {}  # user, cards, when it began

    def begin(self, job: int, user: str, cards: int, now: float) -> None:
        """Count what a job of a user takes from now on."""
        self._running[job] = (user, cards, now)

    def end(self, job: int, now: float) -> None:
        """Count what a job took."""
        self._decay(now)
        user, cards, begun = self._running.pop(job)
        self._ended[user] = self._ended.get(user, 0.0) + cards * (now - begun)

    def at(self, now: float) -> dict[str, float]:
        """Return what each user has used, with what runs."""
        self._decay(now)
        use = dict(self._ended)
        for user, cards, begun in self._running.values():
            use[user] = use.get(user, 0.0) + cards * max(1.0, now - begun)
        return use

    def _decay(self, now: float) -> None:
        left = 0.5 ** ((now - self._since) / HALF_LIFE_S)
        self._ended = {user: seconds * left for user, seconds in self._ended.items()}
        self._since = now
