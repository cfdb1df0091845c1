"""Folders of images that jobs make of other folders: names kept, lossless PNG, and `made.json`.

Start reading at `folders.image_names`.
"""
