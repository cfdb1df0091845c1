"""Disruption: perturbations of images that spoil what an image-to-image generator makes of them.

Start reading at `attack.disrupt_images`.
"""
