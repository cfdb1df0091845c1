"""Screens as lines of text. No screen reads the queue by itself.

Start reading at `queue_view`.
"""
