"""Images on their way from files to a GPU, ahead of the step that needs them.

Start reading at `device_feed.on_device`.
In reading order: device_feed.
"""
