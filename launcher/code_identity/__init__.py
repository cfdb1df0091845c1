"""The code that decides whether a job runs again: which definitions do its work, and the digest of them.

Other packages import from here only. Start reading at `CodeIndex.code`. `text` reads one module, `modules` all of
them, `graph` finds those that some work needs, and `links` their relevant definitions. `promises` has the two files
with which a restructured package keeps its digests.

Whether a planned job is done or stale is decided in `launcher.planning`. The files that a queued job ran are
recorded by `launcher.scheduler.code_recording`; nothing there enters a digest.
"""

from launcher.code_identity.digests import WHOLE_CODE as WHOLE_CODE
from launcher.code_identity.digests import CodeIndex as CodeIndex
from launcher.code_identity.digests import code_digest as code_digest
from launcher.code_identity.digests import user_cache_file as user_cache_file
from launcher.code_identity.promises import PROMISE_FILE as PROMISE_FILE
from launcher.code_identity.promises import SNAPSHOT_FILE as SNAPSHOT_FILE
from launcher.code_identity.promises import renew_promise as renew_promise
from launcher.code_identity.promises import take_snapshot as take_snapshot
from launcher.code_identity.promises import unpromised as unpromised
