"""How a test scores images: its network, attacks on it, and the images as they were scored.

Start reading at `network.Network`.
"""
