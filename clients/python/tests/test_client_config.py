"""Which server and key are used, and where a key never goes."""

import pytest
from client_testkit import Reply
from headrace import Client, ConfigError
from headrace.config import resolve

LOCAL = "http://127.0.0.1:8123"
AWAY = "https://headrace.example"


@pytest.fixture
def stack(tmp_path):
    """Write the development stack's file into the current folder."""

    def write(text, folder=".headrace"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "env").write_text(text)

    return write


def test_arguments_win_over_the_environment_and_it_over_the_file(stack, monkeypatch):
    stack(f"HEADRACE_URL={LOCAL}\nHEADRACE_API_KEY=from-file\n")
    assert Client().base_url == LOCAL
    monkeypatch.setenv("HEADRACE_URL", AWAY)
    monkeypatch.setenv("HEADRACE_API_KEY", "from-env")
    assert Client().base_url == AWAY
    assert Client("https://other.example").base_url == "https://other.example"
    assert resolve(None, "given", {"HEADRACE_URL": AWAY}).api_key == "given"


def test_the_file_is_a_dotenv_file(stack):
    stack(f"# written by up\n\nexport HEADRACE_URL='{LOCAL}'\nHEADRACE_API_KEY=\"hr_a_b=\"\nodd\n")
    found = resolve(None, None, {})
    assert (found.base_url, found.api_key) == (LOCAL, "hr_a_b=")


def test_the_state_dir_says_where_the_file_is(stack, tmp_path):
    stack(f"HEADRACE_URL={LOCAL}\nHEADRACE_API_KEY=k\n", folder="elsewhere")
    found = resolve(None, None, {"HEADRACE_STATE_DIR": str(tmp_path / "elsewhere")})
    assert found.base_url == LOCAL


def test_the_files_key_goes_to_its_own_server_only(stack):
    stack(f"HEADRACE_URL={LOCAL}\nHEADRACE_API_KEY=from-file\n")
    assert resolve(LOCAL + "/v1/", None, {}).api_key == "from-file"
    with pytest.raises(ConfigError, match=f"no API key for {AWAY}"):
        resolve(AWAY, None, {})


def test_a_key_of_ones_own_does_not_follow_a_file_off_this_machine(stack):
    stack(f"HEADRACE_URL={LOCAL}\nHEADRACE_API_KEY=from-file\n")
    assert resolve(None, "mine", {}).api_key == "mine"
    stack(f"HEADRACE_URL={AWAY}\nHEADRACE_API_KEY=from-file\n")
    with pytest.raises(ConfigError, match="HEADRACE_URL"):
        resolve(None, "mine", {})


@pytest.mark.parametrize("url", [LOCAL, f"{LOCAL}/", f"{LOCAL}/v1", f"{LOCAL}/v1/", f" {LOCAL} "])
def test_the_url_may_end_in_v1_or_not(url):
    assert resolve(url, "k", {}).base_url == LOCAL


@pytest.mark.parametrize(
    "url",
    ["headrace.example", "ftp://h", "http://", "http://h:x", "http://u:p@h", "http://h?x=1", "http://["],
)
def test_a_url_that_cannot_be_used_is_refused(url):
    with pytest.raises(ConfigError, match="URL must"):
        resolve(url, "k", {})


@pytest.mark.parametrize("key", ["s3cret\nX-Evil: 1", "s3cret key", "s3crét"])
def test_a_key_that_is_no_header_is_refused_without_being_shown(key):
    with pytest.raises(ConfigError) as caught:
        resolve(LOCAL, key, {})
    assert "s3cr" not in str(caught.value)


def test_what_is_missing_is_named(stack):
    with pytest.raises(ConfigError, match="set HEADRACE_URL"):
        Client()
    with pytest.raises(ConfigError, match="set HEADRACE_API_KEY"):
        Client(LOCAL)
    stack("nothing\n")
    with pytest.raises(ConfigError, match="set HEADRACE_URL"):
        Client()
    stack(f"HEADRACE_URL={LOCAL}\n")
    with pytest.raises(ConfigError, match="set HEADRACE_API_KEY"):
        Client()


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / ".headrace" / "env").mkdir(parents=True)
    with pytest.raises(ConfigError, match="can't read"):
        Client()


def test_a_netrc_does_not_replace_the_key(server, script, key, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("NO_PROXY", "*")
    script.then(Reply(body={"data": []}))
    # The same address, spelled so that it is not taken for local: there the environment counts.
    with Client(server.url.replace("127.0.0.1", "127.1"), key) as client:
        client.models.list()
    assert script.requests[0].headers["Authorization"] == f"Bearer {key}"


def test_a_server_on_this_machine_is_not_reached_by_a_proxy(client, script, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    script.then(Reply(body={"data": []}))
    assert client.models.list() == []
