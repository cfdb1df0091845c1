"""The networks by name, their weights and their checkpoints.

Start reading at `registry`.
In reading order: registry, spec, library_names, probe, head, mlp_head, ridge_head, pretrained,
first_layer, assembly, detectors, checkpoint, folding, classifier_registry, classifiers, logits,
statistics, disentangling, architectures.
"""
