"""Images: which ones an ID means, how they are decoded, augmented and loaded.

Start reading at `index.survey`.
"""
