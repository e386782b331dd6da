"""compose.yaml against the code that it starts, without Docker: names, settings, order, and what is open."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
import yaml

from app.domain.lanes import parse_queue
from app.embedded import postgres, programs
from app.settings import load

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
WORKERS = {name: service for name, service in SERVICES.items() if name.startswith("worker-")}

_VARIABLE = re.compile(r"\$\{([A-Z_]+)(?::([-?])((?:[^{}]|\$\{[^{}]*\})*))?\}")


def interpolated(text: str, given: dict[str, str]) -> str:
    """As Compose replaces `${NAME}`, `${NAME:-default}` and `${NAME:?message}`."""

    def value(match: re.Match[str]) -> str:
        name, kind, word = match.groups()
        if given.get(name):
            return given[name]
        assert kind != "?", f"{name}: {word}"
        return interpolated(word or "", given)

    return _VARIABLE.sub(value, text).replace("$$", "$")


def env_example() -> dict[str, str]:
    lines = (ROOT / "deploy" / "env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def command(service: dict[str, Any]) -> list[str]:
    return [interpolated(word, {}) for word in service["command"]]


def test_it_fits_the_compose_specification() -> None:
    pytest.importorskip("check_jsonschema", reason="it carries the specification's schema")
    folder = resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = orjson.loads((folder / "compose-spec.json").read_bytes())
    jsonschema_rs.validate(schema, COMPOSE)


def test_every_part_of_the_system_has_a_service() -> None:
    expected = {"postgres", "redis", "migrate", "api", "worker-cpu", "worker-batch", "worker-gpu"}
    assert set(SERVICES) == expected | {"sender", "clerk", "scheduler", "flower", "ctl"} | {
        "prometheus",
        "grafana",
    }
    observed = {name for name, service in SERVICES.items() if service.get("profiles") == ["observe"]}
    assert observed == {"prometheus", "grafana"}


@pytest.mark.parametrize("name", OURS)
def test_settings_are_settings(name: str) -> None:
    secrets = {
        "HEADRACE_SECRET_KEY": "s" * 64,
        "POSTGRES_PASSWORD": "p",
        "POSTGRES_API_PASSWORD": "a",
        "REDIS_PASSWORD": "r",
    }
    given = {**env_example(), **secrets, "FLOWER_LOGIN": "a:b"}
    environment = OURS[name]["environment"]
    settings = load({key: interpolated(value, given) for key, value in environment.items()})
    # The API never learns the owner's way to the database.
    role = "headrace_api:a" if name == "api" else "headrace:p"
    assert settings.database_url.get_secret_value() == f"postgresql://{role}@postgres:5432/headrace"
    assert settings.redis_url.get_secret_value() == "redis://:r@redis:6379/0"


def test_every_variable_is_explained_and_secrets_have_no_default() -> None:
    used = {match[1] for match in _VARIABLE.finditer(TEXT)}
    used |= set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    assert used == set(env_example())
    required = {match[1] for match in _VARIABLE.finditer(TEXT) if match[2] == "?"}
    assert required == {
        "HEADRACE_SECRET_KEY",
        "POSTGRES_PASSWORD",
        "POSTGRES_API_PASSWORD",
        "REDIS_PASSWORD",
        "FLOWER_LOGIN",
    }
    assert not [name for name in required if env_example()[name]]


@pytest.mark.parametrize("name", OURS)
def test_commands_name_modules_that_exist(name: str) -> None:
    program, *rest = SERVICES[name].get("entrypoint", []) + command(SERVICES[name])
    modules = {
        "gunicorn": [word.removeprefix("python:").partition(":")[0] for word in rest if "app." in word],
        "celery": [rest[index + 1] for index, word in enumerate(rest) if word == "-A"],
        "python": [rest[index + 1] for index, word in enumerate(rest) if word == "-m"],
        "headracectl": ["app.cli"],
    }[program]
    assert modules
    for module in modules:
        assert importlib.util.find_spec(module), module


def test_the_api_runs_as_in_the_embedded_stack() -> None:
    assert set(command(SERVICES["api"])) <= set(programs.api(1).command)
    in_image = f"CMD {orjson.dumps(command(SERVICES['api'])).decode()}".replace(",", ", ")
    assert in_image in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", WORKERS)
def test_workers_run_as_in_the_embedded_stack(name: str) -> None:
    words = command(WORKERS[name])
    queues = words[words.index("-Q") + 1]
    for queue in queues.split(","):
        parse_queue(queue)
    spec = programs.Worker("any", tuple(queues.split(",")))
    flags = {word for word in programs.worker(spec).command if word.startswith("-") and word != "-m"}
    assert flags - {"--loglevel"} <= set(words)
    # A child is a device slot, so several children need several models in memory: it is set, not guessed.
    assert int(words[words.index("-c") + 1]) >= 1
    assert WORKERS[name]["environment"]["HEADRACE_WORKER_POOL"] in words[words.index("-n") + 1]


def test_the_sender_runs_as_in_the_embedded_stack() -> None:
    words = command(SERVICES["sender"])
    ours = programs.sender("http://127.0.0.1").command
    assert set(ours[ours.index("-A") :]) - {"--loglevel", "INFO"} == set(words[1:])


def test_the_clerk_runs_as_in_the_embedded_stack() -> None:
    words = command(SERVICES["clerk"])
    ours = programs.clerk().command
    assert set(ours[ours.index("-A") :]) - {"--loglevel", "INFO"} == set(words[1:])


def test_every_queue_of_a_machine_without_a_gpu_is_served_by_default() -> None:
    served = set()
    for service in WORKERS.values():
        if "profiles" not in service:
            words = command(service)
            served |= set(words[words.index("-Q") + 1].split(","))
    assert served == {"cpu.interactive", "cpu.batch"}


def test_the_gpu_is_reserved_and_only_on_request() -> None:
    worker = SERVICES["worker-gpu"]
    assert worker["profiles"] == ["gpu"]
    assert worker["build"]["args"] == {"DEVICE": "gpu"}
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_stores_are_not_published_and_the_rest_only_on_loopback() -> None:
    assert "ports" not in SERVICES["postgres"]
    assert "ports" not in SERVICES["redis"]
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 4
    assert all(interpolated(port, env_example()).startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", sorted(set(OURS) - {"migrate", "ctl"}))
def test_processes_start_after_the_migrations(name: str) -> None:
    waits_for = OURS[name]["depends_on"]
    assert waits_for["migrate"]["condition"] == "service_completed_successfully"
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_health_is_checked() -> None:
    unchecked = {name for name, service in SERVICES.items() if "healthcheck" not in service}
    assert unchecked == {"migrate", "scheduler", "flower", "ctl"}


def test_the_api_is_asked_as_its_settings_have_it() -> None:
    """With or without TLS: see `test_the_api_speaks_tls_itself`."""
    assert SERVICES["api"]["healthcheck"]["test"] == ["CMD", "python", "-m", "app.probe", "/readyz"]
    assert 'CMD ["python", "-m", "app.probe", "/livez"]' in stage("api")


@pytest.mark.parametrize("name", WORKERS)
def test_workers_may_finish_their_micro_batch(name: str) -> None:
    from app.domain.model import Model

    assert int(WORKERS[name]["stop_grace_period"].removesuffix("s")) > Model.execution_timeout_s


DOCKERFILE = (ROOT / "Dockerfile").read_text()
TARGETS = ("api", "sender", "scheduler", "worker")


def stage(name: str) -> str:
    (found,) = [text for text in DOCKERFILE.split("\nFROM ")[1:] if re.match(rf"\S+ AS {name}\n", text)]
    return found


def test_nothing_of_ours_runs_as_root() -> None:
    # A number, because Kubernetes can't look a name up.
    assert "\nUSER 10001\n" in stage("runtime")
    for target in TARGETS:
        assert stage(target).startswith(f"runtime AS {target}\n")
        assert "USER" not in stage(target)
    for service in OURS.values():
        assert "user" not in service
        assert service["cap_drop"] == ["ALL"]
        assert service["build"]["target"] in TARGETS


def test_what_the_images_install_is_locked() -> None:
    lines = re.findall(r"pip (?:install|wheel) [^;\n]*", DOCKERFILE)
    assert len(lines) >= 10
    for line in lines:
        assert "--require-hashes -r requirements/" in line or "--no-deps" in line, line
    for target in TARGETS:
        assert f"--require-hashes -r requirements/{target}.txt" in stage(f"build-{target}")
        assert f"COPY --from=build-{target} /venv /venv" in stage(target)


def test_the_base_is_one_version_and_the_locks_are_for_it() -> None:
    (version,) = re.findall(r"^ARG PYTHON_VERSION=(\d+\.\d+)\.\d+$", DOCKERFILE, re.MULTILINE)
    bases = {line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("FROM ")}
    outside = {base for base in bases if ":" in base}
    assert outside == {"python:${PYTHON_VERSION}-slim-bookworm"}
    assert f'python="{version}"' in (ROOT / "requirements" / "lock.py").read_text()


def test_no_secret_is_built_in() -> None:
    assert not re.findall(r"HEADRACE_\w*(?:KEY|URL|PASSWORD)|TOKEN|password", DOCKERFILE)


def test_hadolint_finds_nothing_wrong() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_copies_what_exists_and_what_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for line in DOCKERFILE.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied |= set(shlex.split(line)[1:-1])
    assert {name.partition("/")[0] for name in copied} == kept
    assert all((ROOT / name).exists() for name in copied)


def test_files_are_seen_by_all_who_work_with_them_and_by_nobody_else() -> None:
    place = "storage:/var/lib/headrace/storage"
    seen_by = {name for name, service in OURS.items() if place in service.get("volumes", [])}
    assert seen_by == {"api", "clerk", "scheduler", "ctl", *WORKERS}
    assert "storage" in COMPOSE["volumes"]
    assert env_example()["STORAGE_URL"] == "file:///var/lib/headrace/storage"
    # A new volume takes its owner from the image.
    assert (
        "install -d -o headrace -g headrace -m 700 /var/lib/headrace/storage"
        in (ROOT / "Dockerfile").read_text()
    )


def test_postgres_is_the_embedded_one_in_version_and_tuning() -> None:
    service = SERVICES["postgres"]
    assert service["image"] == f"postgres:{postgres.VERSION}"
    tuned = dict(word.removeprefix("-c").split("=") for word in service["command"] if word.startswith("-c"))
    # How much memory there is differs from machine to machine; the rest is about what a queue does.
    expected = {name: value for name, value in postgres.TUNING.items() if name in tuned}
    assert tuned == {**expected, **postgres.ALWAYS}
    assert set(postgres.TUNING) - set(tuned) == {"shared_buffers", "log_timezone"}


def test_what_the_image_installs_can_migrate(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="it builds the wheel")
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source = ROOT / line[1:]
            ignored = shutil.ignore_patterns("__pycache__")
            if source.is_dir():
                shutil.copytree(source, tmp_path / source.name, ignore=ignored)
            else:
                shutil.copy(source, tmp_path)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    for folder in ("app", "workers", "migrations"):
        scripts = {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py")}
        assert scripts <= names, scripts - names


def test_every_process_is_scraped_and_keeps_its_metrics_to_itself() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    scraped = {
        name: found["port"]
        for job in config["scrape_configs"]
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }
    assert scraped.pop("api") == 8000
    assert set(scraped) == {*WORKERS, "sender", "clerk", "scheduler"}
    for name, port in scraped.items():
        environment = SERVICES[name]["environment"]
        assert environment["HEADRACE_METRICS_BIND"] == f"0.0.0.0:{port}"
        (folder,) = SERVICES[name]["tmpfs"]
        assert folder.partition(":")[0] == environment["PROMETHEUS_MULTIPROC_DIR"]
        assert "ports" not in SERVICES[name]


def test_what_is_mounted_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = interpolated(volume, env_example()).partition(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).is_dir(), volume
