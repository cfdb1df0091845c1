"""What the machine itself has left: cores, main memory, room on its disks.

Start reading at `host_facts.Host`.
"""
