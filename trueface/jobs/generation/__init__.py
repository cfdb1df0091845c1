"""Jobs of generators: translators and diffusers, disruption, purification, erasing; no torch in `*_kind` modules.

Start reading at `generation_kind.GenerationKind`.
In reading order: generation_kind, diffuser_kind, diffuser, denoiser_kind, denoiser, purify_kind,
purifier_models, purify, disrupting, erase_kind, erase, draw_kind, draw, translator_kind, translator,
translate_kind, translate, forgetting, stable_diffusion.
"""
