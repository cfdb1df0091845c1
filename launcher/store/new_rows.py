"""The rows of new jobs and of what they need, as they are inserted into the queue."""

from collections.abc import Mapping, Sequence

from launcher.context import Context
from launcher.job import Spec, SpecWriter
from launcher.states import State
from launcher.store.connection import Connection
from launcher.store.lanes import lane_of
from launcher.store.user_actions import rank_of

NEW_NEED = "INSERT INTO needs (job, need, any_end) VALUES (?, ?, ?)"
COLUMNS = (
    "run, name, kind, state, priority, hash, spec, context, reason_code, reason, reason_data,"
    " submitted, lane, rank, sources"
)
MARKS = ", ".join("?" * 15)


def need_rows(
    job: int, needs: Sequence[int], after_any: Sequence[int]
) -> list[tuple[int, int, int]]:
    """Return what a job waits for as rows; the end of a job that must be done is not one besides."""
    rows = [(job, need, 0) for need in needs]
    return rows + [(job, need, 1) for need in after_any if need not in needs]


class RowWriter:
    """What new jobs of a run have in common, looked up once for all of them. Inside `writing`.

    It is forgotten afterwards: a transaction that is rolled back takes what was stored with it.
    """

    def __init__(self, connection: Connection, run: int, context: Context, number: int) -> None:
        """Begin with nothing looked up.

        Args:
            connection: to the queue.
            run: the number of their run.
            context: in which they run.
            number: of the context.
        """
        self._db, self._run = connection, run
        self._context, self._context_number = context, number
        self._writer = SpecWriter()
        self._lanes: dict[tuple[object, ...], int] = {}
        # by id(): jobs share the very same objects, which are held meanwhile
        self._sources: dict[int, tuple[Mapping[str, str], int | None]] = {}

    def columns(
        self, spec: Spec, state: State, reason: tuple[str, str, str | None], now: float
    ) -> tuple[object, ...]:
        """Return a job's row."""
        return (
            self._run,
            spec.name,
            spec.kind,
            state,
            spec.priority,
            spec.hash,
            self._writer.text(spec, sources=False),
            self._context_number,
            *reason,
            now,
            self._lane(spec),
            rank_of(now, spec.priority),
            self._sources_of(spec),
        )

    def _sources_of(self, spec: Spec) -> int | None:
        shared = self._sources.get(id(spec.sources))
        if shared is None:
            number = self._db.sources_number(spec.sources)
            shared = self._sources[id(spec.sources)] = spec.sources, number
        return shared[1]

    def _lane(self, spec: Spec) -> int:
        """Return the number of a job's lane, made if it is new."""
        memory = spec.signature if spec.resources.may_need_gpu else ""
        terms = spec.terms.group, spec.terms.time_limit_s, spec.terms.on
        alike = (spec.resources, memory, *terms, spec.entry != "", spec.preload)
        if alike not in self._lanes:
            key = lane_of(spec, self._context).key
            row = self._db.execute("SELECT id FROM lanes WHERE key = ?", (key,)).fetchone()
            if row is None:
                insert = "INSERT INTO lanes (key) VALUES (?) RETURNING id"
                row = self._db.execute(insert, (key,)).fetchone()
            self._lanes[alike] = int(row[0])
        return self._lanes[alike]
