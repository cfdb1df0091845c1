"""The networks, a file for each family: to add one is to add a file; see `models.registry`.

Start reading at `resnet`.
"""
