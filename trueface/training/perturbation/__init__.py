"""Steps whose gradients are taken at moved weights: sharpness-aware minimization, adversarial weights.

Start reading at `second_pass.make`.
"""
