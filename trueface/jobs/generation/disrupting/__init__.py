"""The kinds `disrupt` and `restored`: perturbations of images, and what purifiers leave of them.

Start reading at `disrupt.disrupt`.
In reading order: disrupt_kind, disrupt, chain, reference, restored_kind, restored.
"""
