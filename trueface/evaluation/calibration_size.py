"""The number of images that a calibration needs. No numpy here, so that a plan can read it."""

FEWEST = 2  # images of each class, below which nothing is fitted
