"""Real data sets in TrueFace's shape: one file a layout, links, words for data IDs, splits.

Start reading at `registry.register_layout`, then `arrangement.arrange`.
"""
