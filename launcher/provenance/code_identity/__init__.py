"""The code that decides whether a job runs again: which modules do its work, and the digest of them.

Other packages import from here only. Start reading at `CodeIndex.code`. `text` reads one module, `modules` all of
them, and `graph` finds those that some work needs and their relevant statements.

Whether a planned job is done or stale is decided in `launcher.experiments.planning`. The files that a queued job ran are
recorded by `launcher.queue.scheduler.code_recording`; nothing there enters a digest.
"""

from launcher.provenance.code_identity.digests import WHOLE_CODE as WHOLE_CODE
from launcher.provenance.code_identity.digests import CodeIndex as CodeIndex
from launcher.provenance.code_identity.digests import code_digest as code_digest
from launcher.provenance.code_identity.digests import user_cache_file as user_cache_file
