"""Image-to-image generators: a StarGAN that gives faces other attributes, its training, its use.

Start reading at `translator.Translator`.
In reading order: settings, networks, labels, translator, checkpoint, foreign, losses, pictures,
resume, training, folder_settings, detector_set.
"""
