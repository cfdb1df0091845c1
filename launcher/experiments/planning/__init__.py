"""From a task file's entries to the jobs of a run, and from those to the queue.

Start reading at `load.plan`. Whether a planned job is done or has to run is decided in `queue_comparison`, by the digest
of its code from `launcher.provenance.code_identity`.
"""
