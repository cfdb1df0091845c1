"""The networks by name, their weights and their checkpoints.

Start reading at `registry`.
In reading order: registry, head, ridge_head, detectors, classifiers, logits, pretrained, checkpoint,
folding, statistics, architectures.
"""
