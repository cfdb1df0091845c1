"""Small files that must be whole or absent, and sizes, as the launcher writes them."""

from launcher.api import Json as Json
from launcher.api import format_bytes as format_bytes
from launcher.api import parse_bytes as parse_bytes
from launcher.api import read_json as read_json
from launcher.api import write_atomic as write_atomic
from launcher.api import write_json as write_json
