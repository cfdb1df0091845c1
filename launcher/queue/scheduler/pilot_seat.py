"""A pilot as the starter of one attempt: the attempt's folder is in the pilot's folder, with a link in the queue folder."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from launcher.queue.backends.node_paths import NodePaths
from launcher.queue.backends.pilot_link import PilotLink
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.home.paths import LOG, SPEC, Attempt, Home
from launcher.queue.jobs.states import Reason, ReasonCode
from launcher.queue.scheduler.attempt_specs import AttemptSpecs
from launcher.queue.scheduler.node import Seat
from launcher.queue.scheduler.started_attempts import Assignment, PilotAttempt, name_of_claim
from launcher.queue.scheduler.unrecorded_attempts import no_supervisor
from launcher.queue.store.rows import PILOT_PREFIX, Claim
from launcher.queue.workers.attempt_journal import revoke_attempt
from launcher.system.answering import run_with_timeout
from launcher.system.files import write_whole
from launcher.system.processes import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotSeat(Seat):
    """A pilot for one attempt."""

    home: Home
    link: PilotLink
    settings: BackendSettings  # settings of the pilot's backend
    specs: AttemptSpecs
    clock: Callable[[], float]  # seconds since 1970
    trouble: None = None

    @property
    def who(self) -> Identity:
        """The pilot, as the claim names it."""
        return no_supervisor(f"{PILOT_PREFIX}{self.link.token}")

    @property
    def address(self) -> str:
        """The location of the pilot in words. Its token has no meaning for users."""
        hello = self.link.registration
        if hello is None:
            return f", pilot {self.link.token} of {self.settings.name}"
        job = f", job {hello.job}" if hello.job else ""
        return f", node {hello.node or hello.host}{job} of {self.settings.name}"

    def prepare_folder(self, claim: Claim) -> None:
        """Create the attempt's folder in the pilot's folder, and its link in the queue folder.

        Raises:
            OSError: The disk is full.
        """
        gpus = () if self.link.registration is None else self.link.registration.gpus
        text = self.specs.node_text(claim, gpus, NodePaths(self.settings))
        run_with_timeout(self.link.root, partial(self._write_folder, claim, text))

    def _write_folder(self, claim: Claim, text: str) -> None:
        there = self.link.folder.attempt(name_of_claim(claim))
        there.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(there.path_text(SPEC), text)
        if claim.spec.log_link is not None:  # the log has another name from the start
            write_whole(there.path_text(LOG), "")
        _link_attempt(self.home.attempt(*claim.key), there)

    def why_unprepared(self, error: OSError) -> Reason:
        """Return why the folder cannot be created now."""
        where = self.link.folder.attempts_folder
        text = f"cannot create the folder of its attempt in {where}: {error.strerror or error}"
        return Reason(code=ReasonCode.CANNOT_START, text=text)

    def begin(self, claim: Claim, assignment: Assignment) -> PilotAttempt:
        """Return the claimed attempt."""
        reason = assignment.start.reason
        return PilotAttempt(claim=claim, link=self.link, clock=self.clock, reason=reason)

    def void(self, claim: Claim) -> None:
        """Have no scheduler send the attempt."""
        revoke_attempt(self.link.folder.attempt(name_of_claim(claim)))

    def give_back(self) -> None:
        """Do nothing: the pilot was sent nothing."""


def _link_attempt(local_attempt: Attempt, node_attempt: Attempt) -> None:
    """Link an attempt's folder on a pilot in the queue folder. A link of a rolled back transaction is replaced.

    Raises:
        OSError: Another file exists there, or the disk is full.
    """
    try:
        local_attempt.folder.symlink_to(node_attempt.folder)
    except FileExistsError:
        if local_attempt.folder.is_symlink():
            local_attempt.folder.unlink()
        else:  # an order that was written ahead, and an empty log
            local_attempt.log.unlink(missing_ok=True)
            local_attempt.spec.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                local_attempt.folder.rmdir()
        local_attempt.folder.symlink_to(node_attempt.folder)
