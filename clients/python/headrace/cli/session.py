"""What the global options give to every command: a client, made when it is first needed."""

from functools import cached_property

import click

from headrace.client import Client

# A person is waiting, and can press the up arrow.
_MAX_RETRIES = 2


class Session:
    """The `obj` of the command line's context."""

    def __init__(self, url: str | None, api_key: str | None) -> None:
        self._url = url
        self._api_key = api_key

    @cached_property
    def client(self) -> Client:
        return Client(self._url, self._api_key, max_retries=_MAX_RETRIES)

    def close(self) -> None:
        """Close the connections, if there are any."""
        if "client" in self.__dict__:
            self.client.close()


pass_session = click.make_pass_decorator(Session)
