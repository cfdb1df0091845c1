"""What the last layer of a frozen detector gets of images, computed once for the jobs of all runs.

Start reading at `store.FeatureStore`.
In reading order: store, wanted, identity, body, bank, matrix, shard, writing, file_digests,
creation_lock, limit, misses.
"""
