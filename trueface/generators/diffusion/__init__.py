"""Diffusion models: schedules of noise, noise-predicting networks, their training and sampling.

Start reading at `diffuser.Diffuser`.
"""
