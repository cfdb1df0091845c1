"""What people see, as lines of text: no screen reads the queue by itself.

Start reading at `queue_view`.
"""
