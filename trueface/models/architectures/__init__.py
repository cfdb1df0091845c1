"""The networks, one file per family. A new file adds a network; see `models.registry`.

Start reading at `resnet`.
"""
