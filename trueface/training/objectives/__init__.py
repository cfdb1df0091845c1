"""What a training minimizes: one objective a file, chosen by name with the setting `objective`.

Start reading at `registry.register_objective`.
In reading order: registry, protocol, bce, ce, per_image, reweight, dro, dag, daw, cvar2, fused,
ldam, mix, disentangling.
"""
