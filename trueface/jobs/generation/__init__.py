"""Jobs of generators: translators and diffusers, disruption, purification, erasing; no torch in `*_kinds` modules.

Start reading at `diffusion_kinds`, then `diffuser.train_diffuser`.
"""
