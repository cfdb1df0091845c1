"""What the queue remembers of how much memory and time attempts took."""

from launcher.lessons import NEWEST, UNTAUGHT, Lesson
from launcher.states import Done, Outcome
from launcher.store.connection import Connection
from launcher.store.rows import Claim

MOST_LESSONS = 10_000  # kept in memory


class Learning:
    """Lessons by the signature of jobs; of each the newest few."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection
        self._known: dict[str, Lesson] = {}

    def lesson(self, signature: str) -> Lesson:
        """Return what was learned of jobs with a signature."""
        if not signature:
            return UNTAUGHT
        if signature not in self._known:
            if len(self._known) >= MOST_LESSONS:
                self._known.clear()
            rows = self._db.execute(
                "SELECT seconds, peak FROM lessons WHERE signature = ? ORDER BY id DESC LIMIT ?",
                (signature, NEWEST),
            ).fetchall()
            self._known[signature] = Lesson(
                seconds=tuple(seconds for seconds, _ in rows if seconds is not None),
                peaks=tuple(peak for _, peak in rows if peak is not None),
            )
        return self._known[signature]

    def learn(self, claim: Claim, outcome: Outcome, peak: int | None) -> None:
        """Remember what an attempt took on GPUs. Inside `writing`.

        Args:
            claim: the attempt.
            outcome: its end; only one that was done tells how long such a job takes.
            peak: bytes that it took, or wanted, on one GPU at most; None: not measured.
        """
        signature = claim.spec.signature
        done = isinstance(outcome, Done) and bool(claim.gpus)
        if not signature or not (done or peak is not None):
            return
        seconds = max(0.0, outcome.at - claim.claimed) if done else None
        self._db.execute(
            "INSERT INTO lessons (signature, at, seconds, peak) VALUES (?, ?, ?, ?)",
            (signature, outcome.at, seconds, peak),
        )
        self._db.execute(
            "DELETE FROM lessons WHERE signature = ?1 AND id NOT IN"
            " (SELECT id FROM lessons WHERE signature = ?1 ORDER BY id DESC LIMIT ?2)",
            (signature, NEWEST),
        )
        self._known.pop(signature, None)

    def forget(self) -> None:
        """Read everything anew: a transaction was rolled back."""
        self._known.clear()
