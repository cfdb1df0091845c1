"""Conditional image-to-image generators (StarGAN): networks, labels, training.

Start reading at `translator.Translator`.
"""
