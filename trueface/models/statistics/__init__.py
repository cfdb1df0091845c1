"""What detectors by statistics read of an image: fixed numbers, without anything fitted.

Start reading at `families.StatisticsNetwork`.
"""
