"""Jobs of generators: translators and diffusers, disruption, purification, erasing; no torch in `*_kind` modules.

Start reading at `base.GenerationKind`.
In reading order: base, draw_kind, draw, diffuser_kind, diffuser, denoiser_kind, denoiser, purify_kind,
purifier_models, purify, erase_kind, erase, forgetting.
"""
