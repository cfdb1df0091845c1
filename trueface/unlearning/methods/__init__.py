"""The unlearning methods, a file each: what `@register_method` decorates is a method.

A new file needs no entry elsewhere. None imports another; salun alone takes labels from random_labels.
Start reading at `random_labels`, the shortest.
In reading order: common, retrain, random_labels, salun, negative_gradient, npo, scrub, head_refit,
ssd, potion, fisher, boundary, layer_attack, instance_wise, pgu.
"""
