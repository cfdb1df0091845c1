"""Stable Diffusion from a local folder, in the place of a network trained here; needs the extra `diffusion`.

Nothing of it is imported unless a job's settings or a checkpoint ask for it.
Start reading at `network.StableNetwork`.
"""
