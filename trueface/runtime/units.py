"""Amounts of memory as text, as the launcher reads and writes them."""

from launcher.api import format_bytes as format_bytes
from launcher.api import parse_bytes as parse_bytes
