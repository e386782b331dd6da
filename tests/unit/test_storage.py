"""A storage keeps bytes whole or not at all, whichever it is."""

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.errors import NoRoom, SettingsError, Unavailable
from app.settings import load
from app.storage import NotConfigured, Storage, StorageMissing
from app.storage.local import LocalStorage
from app.storage.s3 import S3Storage
from app.storage.store import CHUNK
from tests.unit.test_settings import GOOD

KEY = "files/1/0123"
PART = 5 * CHUNK


def opened(url: str) -> Storage:
    return Storage.of(load({**GOOD, "HEADRACE_STORAGE_URL": url}))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a bucket of moto's server."""
    boto3 = pytest.importorskip("boto3", reason="the extra `s3` is not installed")
    server = pytest.importorskip("moto.server", reason="moto and flask-cors are not installed")
    with pytest.MonkeyPatch.context() as patch:
        running = server.ThreadedMotoServer("127.0.0.1", 0)
        running.start()
        host, port = running.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="headrace-test")
        yield "s3://headrace-test/some/prefix"
        running.stop()


@pytest.fixture(params=["file", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    url = (tmp_path / "a folder").as_uri() if request.param == "file" else request.getfixturevalue("s3")
    made = opened(url)
    made.delete(KEY)
    return made


def put(storage: Storage, content: bytes, key: str = KEY, piece: int = 70_000) -> None:
    with storage.write(key) as writer:
        for at in range(0, len(content), piece):
            writer.write(content[at : at + piece])


def broken(storage: Storage, content: bytes, error: type[BaseException]) -> None:
    with storage.write(KEY) as writer:
        writer.write(content)
        raise error


def read(storage: Storage, start: int = 0, end: int | None = None) -> bytes:
    return b"".join(storage.read(KEY, start, end))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, PART, PART + 1, 2 * PART + CHUNK + 7])
def test_what_is_written_is_read(storage: Storage, size: int) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    with storage.write(KEY) as writer:
        for at in range(0, size, 70_000):
            writer.write(content[at : at + 70_000])
        assert writer.size == size
        assert writer.sha256 == hashlib.sha256(content).digest()
    assert writer.sha256 == hashlib.sha256(content).digest()
    assert storage.size(KEY) == size
    assert read(storage) == content
    assert all(0 < len(chunk) <= CHUNK for chunk in storage.read(KEY))
    for start, end in ((0, size), (size // 2, size), (size // 3, size // 2), (size, size)):
        assert read(storage, start, end) == content[start:end]


@pytest.mark.parametrize("size", [10, PART + 10])
def test_nothing_is_there_before_the_end(storage: Storage, size: int) -> None:
    with storage.write(KEY) as writer:
        writer.write(b"x" * size)
        with pytest.raises(StorageMissing):
            storage.size(KEY)
    assert storage.size(KEY) == size


@pytest.mark.parametrize("size", [10, PART + 10])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_what_broke_off(
    storage: Storage, size: int, error: type[BaseException], tmp_path: Path
) -> None:
    with pytest.raises(error):
        broken(storage, b"x" * size, error)
    with pytest.raises(StorageMissing):
        storage.read(KEY)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    if isinstance(storage, S3Storage):
        assert "Uploads" not in storage._client.list_multipart_uploads(Bucket="headrace-test")


def test_a_file_is_replaced_whole(storage: Storage) -> None:
    put(storage, b"first")
    with pytest.raises(LookupError):
        broken(storage, b"second", LookupError)
    assert read(storage) == b"first"
    put(storage, b"third")
    assert read(storage) == b"third"


def test_deleting_what_is_not_there_is_fine(storage: Storage) -> None:
    put(storage, b"x")
    for _ in range(2):
        storage.delete(KEY)
        with pytest.raises(StorageMissing):
            storage.size(KEY)


def test_what_is_shorter_than_it_should_be_is_told(storage: Storage) -> None:
    put(storage, b"0123456789")
    with pytest.raises(Unavailable):
        list(storage.read(KEY, 0, 11))


@pytest.mark.parametrize("key", ["", "/", "/etc", "a/../b", "a//b", "a/", "..", "A", "a.b", "a\n"])
def test_a_key_leads_nowhere_else(tmp_path: Path, key: str) -> None:
    storage = LocalStorage(tmp_path)
    for use in (storage.read, storage.size, storage.delete):
        with pytest.raises(ValueError, match="no key"):
            use(key)
    with pytest.raises(ValueError, match="no key"), storage.write(key):
        pass


def test_a_folder_that_is_none_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    storage = opened((tmp_path / "file").as_uri())
    for use in (storage.read, storage.size, storage.delete):
        with pytest.raises(Unavailable) as caught:
            use(KEY)
        assert str(tmp_path) not in str(caught.value)
    with pytest.raises(Unavailable), storage.write(KEY):
        pass


def test_a_full_disk_is_unavailable_and_nothing_is_left(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    program = (
        "import resource, signal, sys\n"
        "from app.errors import Unavailable\n"
        "from app.storage.local import LocalStorage\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))\n"
        "try:\n"
        "    with LocalStorage(sys.argv[1]).write('a') as writer:\n"
        "        writer.write(b'x' * 5_000_000)\n"
        "except Unavailable:\n"
        "    print('told')\n"
    )
    assert resource
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "told\n"
    assert list(tmp_path.iterdir()) == []


def test_others_cannot_read_it(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "storage")
    put(storage, b"x")
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "storage").rglob("*")}
    assert modes == {0}


def test_without_a_url_every_use_says_so() -> None:
    storage = Storage.of(load(GOOD))
    uses: list[Callable[[str], object]] = [storage.read, storage.size, storage.delete, storage.write]
    for use in uses:
        with pytest.raises(NotConfigured, match="HEADRACE_STORAGE_URL"):
            use(KEY)


@pytest.mark.parametrize(
    "url", ["/var/files", "file://host/x", "file:///x?y", "gs://bucket", "s3://", "ftp://x/y"]
)
def test_what_is_no_storage_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="HEADRACE_STORAGE_URL"):
        opened(url)


def test_what_s3_needs_is_told_if_it_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.storage.s3.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'headrace\[s3\]'"):
        opened("s3://bucket/prefix")


def test_a_bucket_without_room_is_not_away() -> None:
    exceptions = pytest.importorskip("botocore.exceptions")
    from app.storage.s3 import _failures_told

    answer = {
        "Error": {"Code": "XMinioStorageFull"},
        "ResponseMetadata": {"HTTPStatusCode": 507},
    }
    with pytest.raises(NoRoom, match="full"), _failures_told():
        raise exceptions.ClientError(answer, "PutObject")


def test_a_bucket_that_is_away_is_unavailable(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = opened("s3://no-such-bucket/x")
    with pytest.raises(Unavailable), missing.write(KEY) as writer:
        writer.write(b"x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    program = (
        "from app.settings import load\nfrom app.storage import Storage\nfrom app.errors import Unavailable\n"
        f"storage = Storage.of(load({ {**GOOD, 'HEADRACE_STORAGE_URL': s3}!r}))\n"
        "try:\n    storage.size('a')\nexcept Unavailable:\n    print('told')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "told\n"


_UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, gevent
from app.settings import load
from app.storage import Storage

storage = Storage.of(load(dict(zip(sys.argv[1::2], sys.argv[2::2]))))
ticks = 0

def tick():
    global ticks
    while True:
        gevent.sleep(0.001)
        ticks += 1

def work(number):
    key = f"many/{number}"
    with storage.write(key) as writer:
        for _ in range(20):
            writer.write(bytes([number]) * 1_000_000)
    got = 0
    for chunk in storage.read(key):
        assert set(chunk) == {number}
        got += len(chunk)
    storage.delete(key)
    return got

gevent.spawn(tick)
workers = [gevent.spawn(work, number) for number in range(4)]
gevent.joinall(workers, timeout=50, raise_error=True)
print([worker.value for worker in workers], ticks > 10)
"""


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_under_gevent_transfers_share_the_process(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = tmp_path.as_uri() if kind == "file" else request.getfixturevalue("s3")
    settings = {**GOOD, "HEADRACE_STORAGE_URL": url}
    pairs = [word for pair in settings.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "-c", _UNDER_GEVENT, *pairs], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[20000000, 20000000, 20000000, 20000000] True\n", done.stderr
