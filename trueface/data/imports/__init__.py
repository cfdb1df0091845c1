"""Real data sets in TrueFace's shape: one file a layout, links, words for data IDs, splits.

Start reading at `registry.register_layout`, then `arrangement.arrange`.
In reading order: registry, images, arrangement, source_names, grouping, listing, record, writing,
dataset_file.
"""
