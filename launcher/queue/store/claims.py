"""Claims: the resources that are reserved for attempts, each with a place and a supervisor."""

from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

from launcher.queue.jobs.context import read_context
from launcher.queue.jobs.states import Reason, ReasonCode, State
from launcher.queue.jobs.stored_specs import add_sources
from launcher.queue.store.connection import NEW_EVENT, Connection, read_sources, reason_columns
from launcher.queue.store.job_repair import fail_unreadable
from launcher.queue.store.output_conflicts import find_writer, wait_for_writer
from launcher.queue.store.rows import Claim, ReadyJob, claim_row
from launcher.system.stored_fields import Unreadable, parse_record

MOST_CONTEXTS = 64  # kept in memory; each is as large as an environment
_NEXT_CLAIM_IN_CLASS = (
    "SELECT id, attempts + 1, run, spec, sources, code, context FROM jobs WHERE state = 'queued'"
    " AND waits = 0 AND priority = ? AND run = ? AND lane = ? ORDER BY rank, id LIMIT 1"
)
_OPEN_CLAIMS = (  # only a running job has an attempt that has not ended
    "SELECT attempts.*, jobs.run, jobs.spec, sources.body AS sources_text, contexts.body AS context FROM jobs"
    " JOIN attempts ON attempts.job = jobs.id AND attempts.outcome IS NULL"
    " LEFT JOIN sources ON sources.id = jobs.sources"
    " JOIN contexts ON contexts.id = jobs.context WHERE jobs.state = 'running' ORDER BY jobs.id"
)

# columns of a new attempt, which its claim has as fields
_CLAIM_COLUMNS = (
    *("job", "number", "boot", "device", "cpus"),
    *("pid", "start_ticks", "claimed", "vram", "exclusive"),
)
_NEW_ATTEMPT = (
    f"INSERT INTO attempts ({', '.join(_CLAIM_COLUMNS)})"
    f" VALUES ({', '.join('?' * len(_CLAIM_COLUMNS))})"
)
_attempt_columns = attrgetter(*_CLAIM_COLUMNS)


class ClaimPlacement(NamedTuple):
    """Place and supervisor of an attempt."""

    device: str  # "cpu", or the UUIDs of GPUs with commas between
    cpus: int
    boot: str
    pid: int
    start_ticks: int
    vram: int | None = None  # bytes reserved on each GPU
    exclusive: bool = False  # the GPUs are shared with none of ours


class Claims:
    """The attempts whose end is not known yet, and how a job comes to one."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection
        # stored contexts and sources never change: the text of a context with what of it cannot be understood, and the
        # digests of modules
        self._contexts: dict[int, tuple[str, str]] = connection.new_cache()
        self._sources_by_number: dict[int | None, str | None] = connection.new_cache()

    def next_claim(
        self, class_member: ReadyJob, placement: ClaimPlacement, now: float
    ) -> Claim | None:
        """Return the claim that the first job of a class would get now. Nothing is reserved by that.

        Args:
            class_member: A job of that class.
            placement: The place.
            now: Seconds since 1970.

        Returns None if there is no such job or its spec is invalid.
        """
        row = self._db.execute(_NEXT_CLAIM_IN_CLASS, class_member.job_class).fetchone()
        if row is None:
            return None
        job, number, run, own, sources, code, context = row
        context_text, why = self._read_context_text(context)
        spec = add_sources(own, self._read_sources(sources))
        claim = _build_claim(job, number, run, placement, spec, context_text, now, code)
        return None if claim.spec_error or why else claim

    def next_attempt(self, job: int) -> int:
        """Return the number of a job's next attempt, as far as the queue knows."""
        row = self._db.execute("SELECT attempts FROM jobs WHERE id = ?", (job,)).fetchone()
        return 1 + (int(row[0]) if row else 0)

    def claim(
        self,
        job: int,
        placement: ClaimPlacement,
        *,
        reason: str,
        now: float,
        least_attempt_number: int = 0,
        prepare_folder: Callable[[Claim], None] = lambda _: None,
    ) -> Claim | None:
        """Claim a queued job for a new attempt. None if it is no longer queued.

        A job with an invalid spec fails. A job waits while another one writes the same path.

        Args:
            job: Number of the job.
            placement: The place.
            reason: Why it starts there.
            now: Seconds since 1970.
            least_attempt_number: Lowest number of the attempt. Higher than the next one if folders are in the
                way.
            prepare_folder: Creates the attempt's folder. If it raises, nothing is claimed. Without
                the folder nothing is claimed either.
        """
        with self._db.writing():
            claim = self._next_claim(job, placement, least_attempt_number, now)
            if claim is not None and (writer := find_writer(self._db, {job: claim.spec})):
                wait_for_writer(self._db, job, writer, now)
                return None
            if claim is not None:
                prepare_folder(
                    claim
                )  # first: inside another transaction nothing would take the claim back
                self._record_start(claim, Reason(code=ReasonCode.STARTED, text=reason))
        return claim

    def _next_claim(
        self, job: int, placement: ClaimPlacement, least_attempt_number: int, now: float
    ) -> Claim | None:
        """Return the claim of a queued job's next attempt; set a job aside that cannot be understood."""
        row = self._db.execute(
            "SELECT max(attempts + 1, ?), run, spec, sources, code, context FROM jobs"
            " WHERE id = ? AND state = 'queued' AND waits = 0",
            (least_attempt_number, job),
        ).fetchone()
        if row is None:
            return None
        least_attempt_number, run, own, sources, code, context = row
        context_text, why = self._read_context_text(context)
        spec = add_sources(own, self._read_sources(sources))
        claim = _build_claim(
            job, least_attempt_number, run, placement, spec, context_text, now, code
        )
        if why := claim.spec_error or why:
            fail_unreadable(self._db, job, why, now)
            return None
        return claim

    def _record_start(self, claim: Claim, reason: Reason) -> None:
        columns = reason_columns(reason)
        self._db.execute(
            "UPDATE jobs SET state = 'running', attempts = ?, reason_code = ?, reason = ?,"
            " reason_data = ?, wish = '' WHERE id = ? AND state = 'queued' AND waits = 0",
            (claim.number, *columns, claim.job),
        )
        self._db.execute(_NEW_ATTEMPT, _attempt_columns(claim))
        self._db.execute(NEW_EVENT, (claim.claimed, claim.job, State.RUNNING, *columns))

    def open_claims(self) -> list[Claim]:
        """Return every attempt whose end is not known yet."""
        return [claim_row(row) for row in self._db.execute(_OPEN_CLAIMS)]

    def local_claims(self) -> list[Claim]:
        """Return the attempts on this machine whose end is not known yet."""
        return [claim for claim in self.open_claims() if not claim.pilot]

    def _read_context_text(self, context_number: int) -> tuple[str, str]:
        """Return a context's text, and the part that cannot be understood."""
        if context_number not in self._contexts:
            if len(self._contexts) >= MOST_CONTEXTS:
                self._contexts.clear()
            row = self._db.execute(
                "SELECT body FROM contexts WHERE id = ?", (context_number,)
            ).fetchone()
            text, why = (row[0] if row else ""), ""
            try:
                read_context(parse_record(text, "the record of its surroundings"))
            except Unreadable as error:
                why = str(error)
            self._contexts[context_number] = text, why
        return self._contexts[context_number]

    def _read_sources(self, sources_number: int | None) -> str | None:
        """Return the stored digests of shared modules, None if there are none."""
        if sources_number not in self._sources_by_number:
            if len(self._sources_by_number) >= MOST_CONTEXTS:
                self._sources_by_number.clear()
            self._sources_by_number[sources_number] = read_sources(self._db.execute, sources_number)
        return self._sources_by_number[sources_number]


def _build_claim(
    job: int,
    attempt_number: int,
    run: int,
    placement: ClaimPlacement,
    spec_text: str,
    context_text: str,
    now: float,
    code: int | None,
) -> Claim:
    return Claim(
        job=job,
        number=attempt_number,
        run=run,
        boot=placement.boot,
        device=placement.device,
        cpus=placement.cpus,
        pid=placement.pid,
        start_ticks=placement.start_ticks,
        spec_text=spec_text,
        context_text=context_text,
        vram=placement.vram,
        exclusive=placement.exclusive,
        claimed=now,
        code=code,
    )
