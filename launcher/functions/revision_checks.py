"""What is refused of changed jobs, as of new ones: what could never start, and groups that are not there."""

import os
from collections.abc import Iterable

from launcher.backends.settings import Backends, configured_backends
from launcher.backends.shape import impossible_there, placed_terms, runs_only_here
from launcher.errors import UsageError
from launcher.functions.checks import check_groups, check_possible
from launcher.planning.revising.revision import Revision
from launcher.screens.format import harmless
from launcher.store.queue import Store
from launcher.system.paths import Home


def check_revisions(home: Home, store: Store, revisions: Iterable[Revision]) -> None:
    """Refuse changes after which jobs could never start; what is not changed was checked before.

    Raises:
        UsageError: a group or backend is not there, or more is asked for than there is.
    """
    backends = configured_backends(os.environ)
    for revision in revisions:
        try:
            _check(home, store, revision, backends)
        except UsageError as error:
            raise UsageError(f"job {revision.row.id}: {error}; nothing was changed") from error


def _check(home: Home, store: Store, revision: Revision, backends: Backends) -> None:
    before, after = revision.row.spec, revision.spec
    if after.terms.group != before.terms.group:
        check_groups(store, [after.terms.group])
    moved = after.terms.on != before.terms.on
    if moved:
        placed_terms(after.terms, backends)
    if after.resources == before.resources and not moved:
        return
    if runs_only_here(after.terms):
        check_possible(home, after.resources)
    elif why := impossible_there(after.resources, after.terms, backends):
        raise UsageError(f"it can never run: {harmless(why)}")
