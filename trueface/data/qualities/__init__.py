"""Qualities of training images: each item as it is, as JPEG, at half the size, as a video's frame.

Start reading at `feed.QualityTransform`.
"""
