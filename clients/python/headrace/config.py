"""Which server, with which key: arguments, then the environment, then the development stack.

`headracectl up` writes `.headrace/env` (or `$HEADRACE_STATE_DIR/env`), so that in its folder
nothing needs to be set.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from headrace.errors import ConfigError

LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Config:
    """A server and a key for it, checked."""

    base_url: str
    api_key: str = field(repr=False)

    @property
    def is_loopback(self) -> bool:
        return urlsplit(self.base_url).hostname in LOOPBACK

    @property
    def is_local_http(self) -> bool:
        return self.is_loopback and self.base_url.startswith("http:")


def resolve(base_url: str | None, api_key: str | None, environ: Mapping[str, str]) -> Config:
    """Find URL and key. Raises `ConfigError` that says what to set."""
    for name, given in (("base_url", base_url), ("api_key", api_key)):
        if not isinstance(given, str | None):
            raise TypeError(f"{name} is text, not {type(given).__name__}")
    url = base_url or environ.get("HEADRACE_URL")
    key = api_key or environ.get("HEADRACE_API_KEY")
    if url and key:
        return Config(_checked_url(url), _checked_key(key))

    path = Path(environ.get("HEADRACE_STATE_DIR") or ".headrace") / "env"
    stack = _read_dotenv(path)
    if not url and not stack.get("HEADRACE_URL"):
        raise ConfigError(
            "no server: set HEADRACE_URL and HEADRACE_API_KEY, exported, or work in the folder of"
            f" headracectl up ({path} names none)"
        )
    found = Config(
        _checked_url(url or stack["HEADRACE_URL"]),
        _checked_key(key or stack.get("HEADRACE_API_KEY", "")),
    )
    # The file belongs to whoever wrote the current folder. Its key goes to its own server only, and
    # a key from elsewhere does not follow it off this machine.
    if url and found.base_url != _checked_url(stack.get("HEADRACE_URL", url)):
        raise ConfigError(f"no API key for {found.base_url}: set HEADRACE_API_KEY")
    if key and not found.is_loopback:
        raise ConfigError(f"HEADRACE_API_KEY is set but not HEADRACE_URL; {path} is not used for it")
    return found


def _checked_url(url: str) -> str:
    """Without a trailing `/` or `/v1`, so that the address OpenAI's clients take works as well."""
    url = url.strip().rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname
        parts.port  # noqa: B018 (reading it is what checks it)
    except ValueError:
        usable = None
    if not usable:
        raise ConfigError("the server's URL must look like https://host[:port]")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError("the server's URL must have no user, query or fragment")
    return url


def _checked_key(key: str) -> str:
    # The HTTP library's own check would quote a malformed header, key and all, in its error.
    if not key:
        raise ConfigError("no API key: set HEADRACE_API_KEY")
    key = key.strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError("the API key has characters that no key has; was it copied whole?")
    return key


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read {path}: {error.__class__.__name__}") from None
    values = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            values[name.strip()] = value.strip().strip("\"'")
    return values
