"""Which group of people each image shows, and which forgery: tables of attributes, joined to images.

Start reading at `attributes.Attributes`.
"""
