"""Jobs of generators: translators and diffusers, disruption, purification, erasing; no torch in `*_kind` modules.

Start reading at `generation_kind.GenerationKind`.
"""
