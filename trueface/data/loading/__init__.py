"""Images before the network asks for them: decoded once for all jobs of a machine, loaded ahead.

Start reading at `shared_images.SharedImages`.
In reading order: segments, segment_writer, segment_folder, shared_images, order, prefetch,
requests, processes.
"""
