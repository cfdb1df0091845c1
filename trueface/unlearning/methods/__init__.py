"""The unlearning methods, a file each. None imports another, but salun its random labels.

Start reading at `rl`, the shortest.
In reading order: retrain, finetune, relabel, corrected, restart, common, exact, rl, salun, ng, npo,
scrub, ssd, potion, fisher, iwu, lau, shrink, expand, pgu.
"""
