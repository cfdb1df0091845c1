"""Images before the network asks for them: decoded once for all jobs of a machine, loaded ahead.

Start reading at `shared_images.SharedImages`.
"""
