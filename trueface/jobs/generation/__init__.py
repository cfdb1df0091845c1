"""Jobs of generators: translators and diffusers, disruption, purification, erasing; no torch in `*_kind` modules.

Start reading at `base.GenerationKind`.
In reading order: base, diffuser_kind, diffuser.
"""
