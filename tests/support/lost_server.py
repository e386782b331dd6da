"""What a process sees whose Postgres is lost with its machine: nothing comes back, not even a refusal.

    unshare --net -- python -m tests.support.lost_server FOLDER

In a network of its own, since it drops every packet of the loopback interface. Writes as JSON after how many
seconds who noticed: a statement that waits for its answer, one that is sent then, and a new connection.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import text

from app.db.engine import connect, make_engine
from app.errors import Unavailable
from tests.support import servers
from tests.support.waiting import wait_until

_MOST_S = 60


def main(folder: Path) -> dict[str, float]:
    """Lose a server."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    lost, lost_at = threading.Event(), [0.0]
    held = threading.Barrier(2)
    noticed: dict[str, float] = {}
    with servers.postgres(folder) as server, server.database() as url:
        engine = make_engine(SecretStr(url), statement_timeout_s=2 * _MOST_S)

        def waits() -> None:
            with connect(engine) as connection:
                connection.execute(text(f"SELECT pg_sleep({_MOST_S})"))

        def asks() -> None:
            with connect(engine) as connection:
                held.wait()
                lost.wait()
                connection.execute(text("SELECT 1"))

        def connects() -> None:
            lost.wait()
            with connect(make_engine(SecretStr(url))):
                pass

        def note(do: Callable[[], None]) -> None:
            try:
                do()
            except Unavailable:
                noticed[do.__name__] = time.monotonic() - lost_at[0]

        threads = [threading.Thread(target=note, args=(do,)) for do in (waits, asks, connects)]
        for thread in threads:
            thread.start()
        held.wait()
        sleeping = "SELECT 1 FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'"
        wait_until(lambda: server.execute(sleeping), 20, "the statement that waits")
        drop = ["tc", "qdisc", "add", "dev", "lo", "root", "blackhole"]
        subprocess.run(drop, check=True)
        lost_at[0] = time.monotonic()
        lost.set()
        for thread in threads:
            thread.join(_MOST_S)
        subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=True)
    return noticed


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
