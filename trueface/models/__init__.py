"""The networks by name, their weights and their checkpoints.

Start reading at `detectors`.
In reading order: registry, backbones, detectors, classifiers, logits, pretrained, checkpoint.
"""
