"""Splits of images into training, validation and test: their files, how they are made, and leaks between them."""
