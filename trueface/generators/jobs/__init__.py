"""Jobs of generators (translators, diffusers), disruption, purification, erasing. `*_kinds` modules import no torch.

Start reading at `diffusion_kinds`, then `diffuser.train_diffuser`.
"""
