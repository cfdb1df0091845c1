"""Jobs of generators: translators and diffusers, disruption, purification, erasing; no torch in `*_kinds` modules.

Start reading at `jobs.job_kind.GenerationKind`.
"""
