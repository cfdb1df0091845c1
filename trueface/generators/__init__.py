"""Image generators: diffusers and translators, concept erasing, disruption and purification.

`jobs` has their job types, `commands` the commands, `report` the pages. Nothing else in trueface imports this package.
Start reading at `jobs.diffusion_kinds`, then `diffusion.diffuser` or `translation.translator`.
"""
