"""supervisord's configuration says what we mean, and the reaper speaks its protocol."""

import io
from configparser import RawConfigParser
from pathlib import Path

from app.embedded import reaper, supervisor
from app.embedded.program import Program
from app.embedded.state import StateDir


def read(programs: list[Program], root: Path) -> RawConfigParser:
    parser = RawConfigParser()
    parser.read_string(supervisor.render(programs, StateDir(root)))
    return parser


def test_servers_start_first_and_stop_last(tmp_path: Path) -> None:
    conf = read([Program("db", ["db"], server=True), Program("api", ["api"])], tmp_path)
    assert conf["group:servers"]["programs"] == "db"
    assert conf["group:services"]["programs"] == "api"
    assert conf.getint("group:servers", "priority") < conf.getint("group:services", "priority")


def test_nothing_embedded_leaves_no_empty_group(tmp_path: Path) -> None:
    assert "group:servers" not in read([Program("api", ["api"])], tmp_path)


def test_a_worker_is_asked_alone_but_killed_with_its_children(tmp_path: Path) -> None:
    section = read([Program("worker-a", ["celery"], stop_wait_s=20)], tmp_path)["program:worker-a"]
    assert section["stopsignal"] == "TERM"
    assert not section.getboolean("stopasgroup")
    assert section.getboolean("killasgroup")
    assert section.getint("stopwaitsecs") == 20


def test_percent_signs_are_not_expanded(tmp_path: Path) -> None:
    program = Program("worker-a", ["celery", "-n", "a@%h"], {"KEY": "50%"})
    section = read([program], tmp_path)["program:worker-a"]
    assert section["command"].endswith("celery -n a@%%h")
    assert section["environment"] == 'KEY="50%%"'


def test_a_path_with_blanks_stays_one_argument(tmp_path: Path) -> None:
    section = read([Program("db", ["db", "/a b/c"], server=True)], tmp_path)["program:db"]
    assert section["command"].endswith("db '/a b/c'")


def test_the_reaper_tells_which_program_ended() -> None:
    payloads = ["processname:a groupname:g from_state:RUNNING expected:0 pid:41", "processname:b pid:42"]
    sent = "".join(f"ver:3.0 eventname:X len:{len(payload)}\n{payload}" for payload in payloads)
    replies = io.StringIO()
    assert list(reaper.ended(io.StringIO(sent), replies)) == [41, 42]
    assert replies.getvalue() == "READY\nRESULT 2\nOKREADY\nRESULT 2\nOKREADY\n"
