"""Diffusion models: schedules of noise, noise-predicting networks, their training and sampling.

Start reading at `diffuser.Diffuser`.
In reading order: schedule, network, blocks, mlp, unet, assembly, diffuser, sampling, checkpoint,
settings, class_names, images, batches, course, ema, resume, training, stable.
"""
