import socket
import subprocess
import sys

from tests.launcher.conftest import Launcher

WITHOUT_STARLETTE = """
import sys
sys.modules["starlette"] = None
from launcher.cli.main import main
main(["web"])
"""


def test_a_port_that_is_taken_is_named_with_the_way_out(launcher: Launcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        answer = launcher("web", "--port", str(port))
    assert answer.code == 2
    assert answer.out == ""
    assert f"cannot serve on port {port}: Address already in use; name another one" in answer.err


def test_a_port_that_is_none_is_refused(launcher: Launcher) -> None:
    assert launcher("web", "--port", "65536").code == 2


def test_without_its_extra_it_says_how_to_install_it() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", WITHOUT_STARLETTE], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 3
    assert "pip install 'launcher-trueface[web]'" in answer.stderr
    assert "Traceback" not in answer.stderr
