"""What is done to training images at random: the original's five steps, and one file for each further.

Start reading at `registry.register_augmentation`.
"""
