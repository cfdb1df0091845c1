"""Drawn sets of images: portraits with known attributes, shapes in class folders, photographs made smaller.

Start reading at `drawn_set.make_drawn`.
In reading order: settings, names, canvas, portraits, shapes, photographs, attribute_table, drawn_set.
"""
