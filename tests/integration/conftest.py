"""What several tests against real servers share."""

import pytest
from pytest_httpserver import HTTPServer

from tests.postgres import running


@pytest.fixture(scope="module")
def http_server():
    """A server on loopback, one for all tests of a file."""
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture
def server(http_server):
    """The same without handlers; what went wrong inside it fails the test."""
    http_server.clear()
    yield http_server
    http_server.check_assertions()
    http_server.check_handler_errors()


@pytest.fixture(scope="module")
def database():
    """A PostgreSQL of the file's own."""
    with running() as found:
        if found is None:
            pytest.skip("no PostgreSQL is installed (Debian: apt-get install postgresql)")
        yield found
