"""Perturbations that spoil what a generator makes of images, and purifiers, which take them out again.

Start reading at `disruption.disrupt_images`, then at `registry.parse_purifier`.
"""
