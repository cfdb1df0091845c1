"""Loading of images: decoded, transformed, in batches, ahead of the steps that use them.

Start reading at `image_set.ImageSet.load`.
"""
