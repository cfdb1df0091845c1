"""What happens to images on their way from a generator to a detector: JPEG, resizing, noise, a screenshot.

Start reading at `chain.Chain`.
"""
