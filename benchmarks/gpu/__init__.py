"""What only a GPU can tell, measured by one command: `make gpu`.

Start reading at `parts.PARTS`.
"""
