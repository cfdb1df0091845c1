"""Drawn sets of images: scenes, cameras, and the fingerprints of generators."""
