"""News of attempts: who ended is passed on to be taken in, who lives is watched on."""

import logging
import time
from collections.abc import Callable, Collection
from functools import partial

from launcher.scheduler.admission import Admission
from launcher.scheduler.attempt_watch import Adopted, Supervised, Watch, find_out, watch
from launcher.scheduler.dispatch.hearing import Hearing
from launcher.scheduler.endings.ended_attempts import Ended, Endings
from launcher.scheduler.running_attempts import RunningAttempts
from launcher.scheduler.succession import Succession
from launcher.states import Done, Failed, Lost, Outcome, State, Void, ending
from launcher.store.retention import delete
from launcher.store.rows import Claim
from launcher.system.paths import Home
from launcher.workers.fork_server_pool import ForkServerPool, Outage, Unusable

logger = logging.getLogger(__name__)


class AttemptNews:
    """Tells those who decide what became of attempts."""

    def __init__(
        self,
        home: Home,
        clock: Callable[[], float],
        *,
        attempts: RunningAttempts,
        endings: Endings,
        admission: Admission,
        succession: Succession,
        fork_servers: ForkServerPool,
        outage: Outage,
        hearing: Hearing,
    ) -> None:
        """Begin without news.

        Args:
            home: where attempts lie.
            clock: seconds since 1970.
            attempts: gets those that live.
            endings: gets those that have ended.
            admission: learns that pauses have changed, and which job the machine could not start.
            succession: learns which places were left.
            fork_servers: get supervisors back.
            outage: learns that this machine could not start a program.
            hearing: hears the attempts on pilots.
        """
        self._home, self._clock = home, clock
        self._attempts, self._endings = attempts, endings
        self._admission, self._succession = admission, succession
        self._fork_servers, self._outage, self._hearing = fork_servers, outage, hearing

    def adopt(self, claim: Claim) -> None:
        """Find out how far an attempt came that another scheduler claimed."""
        attempt = self._home.attempt(claim.job, claim.number)
        look = partial(watch, claim, attempt)
        if claim.pilot:
            look = partial(self._hearing.adopt, claim)
        self._follow(claim, find_out(claim, look))

    def take(self, readable: Collection[int] | None) -> None:
        """Take in what attempts and pilots have told, and that pilots are lost.

        Args:
            readable: the descriptors that are readable; None: not known.
        """
        for claim, outcome in self._hearing.bury():
            self._admission.pauses.read()
            self._succession.forbid()
            self._follow(claim, outcome)
        for attempt, news in self._attempts.take_news(readable):
            self._admission.pauses.read()  # a failure may have begun a pause
            if isinstance(attempt, Supervised):
                self._fork_servers.give_back(attempt.environment, attempt.supervisor)
            if isinstance(attempt, Supervised) and isinstance(news, Done):
                self._succession.leave(attempt.place)
            else:
                self._succession.forbid()
            self._follow(attempt.claim, news)

    def cannot_start(self, claim: Claim, why: Unusable) -> None:
        """End an attempt for which there is no supervisor."""
        self._admission.pauses.read()  # its end may begin a pause
        self._follow(claim, find_out(claim, partial(self._unstarted, claim, why)))

    def _unstarted(self, claim: Claim, why: Unusable) -> Outcome | Watch:
        """Void an attempt that no supervisor can start; it has failed then, or is lost."""
        news = watch(claim, self._home.attempt(claim.job, claim.number))
        if not isinstance(news, Void):
            return news
        at = self._clock()
        if why.passing:
            return Void(at=at, why=str(why), whose="job")
        return Failed(at=at, error=str(why)) if why.sure else Lost(at=at, why=str(why))

    def _follow(self, claim: Claim, news: Outcome | Watch) -> None:
        if isinstance(news, Void) and news.whose == "machine":
            self._outage.failed(news.why, time.monotonic())
            self._admission.exclude(claim.job)
        if isinstance(news, Outcome):
            self._endings.add(claim, news)
            return
        self._attempts.add(news)
        if isinstance(news, Adopted):
            logger.info("job=%d attempt=%d adopted", claim.job, claim.number)

    def put_away(self, ended: Ended, state: State | None) -> None:
        """Delete the folder of an attempt that this machine could not start; log how it ended."""
        job, number = ended.claim.job, ended.claim.number
        if isinstance(ended.outcome, Void) and ended.outcome.whose == "machine":
            delete(self._home.attempt(job, number))
        logger.info(
            "job=%d attempt=%d state=%s ending=%s", job, number, state, ending(ended.outcome)
        )
