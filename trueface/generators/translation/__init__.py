"""Image-to-image generators: a StarGAN that gives faces other attributes, its training, its use.

Start reading at `translator.Translator`.
"""
