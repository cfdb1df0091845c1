"""Drawn sets of images: portraits with known attributes, shapes in class folders, photographs made smaller.

Start reading at `drawn_set.make_drawn`.
"""
