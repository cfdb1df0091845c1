"""The kinds `disrupt` and `restored`: perturbations of images, and what purifiers leave of them.

Start reading at `disrupt.disrupt`.
"""
