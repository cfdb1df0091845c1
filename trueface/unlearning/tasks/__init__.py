"""What is to be forgotten: flipped labels of a detector, or a class or images of a classifier.

Start reading at `problem.unlearn`.
"""
