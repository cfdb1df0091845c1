import re
from pathlib import Path

import pytest

from launcher.web.guard import new_access, refusal

HERE = Path("/home/ada/queue")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:9", "127.0.0.1", "[::1]:8000"]
)
def test_the_loopback_is_answered_by_any_of_its_names_and_ports(host: str) -> None:
    assert refusal({"host": host}) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost:8000:1",
        "127.0.0.2",
    ],
)
def test_a_name_that_is_not_this_machines_is_refused(host: str) -> None:
    refused = refusal({"host": host})
    assert refused is not None
    assert refused[0] == 421


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9", "https://127.0.0.1:8000", ""]
)
def test_a_request_from_another_page_is_refused(origin: str) -> None:
    refused = refusal({"host": "127.0.0.1:8000", "origin": origin})
    assert refused is not None
    assert refused[0] == 403


def test_a_request_from_our_own_page_is_answered() -> None:
    assert refusal({"host": "localhost:8000", "origin": "http://localhost:8000"}) is None


def test_only_the_own_token_and_cookie_open_the_page() -> None:
    access, other = new_access(HERE, 8000), new_access(HERE, 8000)
    assert access.opens(access.token)
    assert not access.opens("")
    assert not access.opens(other.token)
    assert not access.opens(access.cookie)
    assert access.knows(f"theme=dark; {access.name}={access.cookie}")
    assert not access.knows("")
    assert not access.knows(f"{access.name}={other.cookie}")
    assert not access.knows(f"{access.name}={access.token}")
    assert not access.knows("no;cookie=\x00")


@pytest.mark.parametrize("foreign", ["foo", "=foo", 'x={"a":1}', "x=\xfc", "a/b=1", "a,b=1", ""])
def test_cookies_of_other_servers_on_this_host_shut_nobody_out(foreign: str) -> None:
    access = new_access(HERE, 8000)
    ours = f"{access.name}={access.cookie}"
    assert access.knows(f"{ours}; {foreign}")
    assert access.knows(f"{foreign}; {ours}")
    assert access.knows(f"{access.name}=another's; {ours}")


def test_a_cookie_is_of_a_home_and_a_port() -> None:
    names = {
        new_access(home, port).name for home in (HERE, Path("/home/bob/queue")) for port in (1, 2)
    }
    assert len(names) == 4
    assert all(re.fullmatch(r"launcher-[0-9a-f]{12}-[12]", name) for name in names), names


def test_a_cookie_goes_to_the_folder_of_its_server_alone_and_to_no_script() -> None:
    access = new_access(HERE, 8000)
    assert access.folder not in new_access(HERE, 8000).set_cookie
    assert access.set_cookie.startswith(f"{access.name}={access.cookie}; ")
    assert access.set_cookie.endswith(f"; Path=/{access.folder}/; HttpOnly; SameSite=Strict")
