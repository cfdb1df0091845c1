"""What the last layer of a frozen detector gets of images, computed once for the jobs of all runs.

Start reading at `store.FeatureStore`.
"""
