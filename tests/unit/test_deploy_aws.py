"""The templates of deploy/aws, offline: valid, and of one mind with the code and the guide about pools."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.domain import pools
from app.domain.pools import WHERE, Pool
from app.embedded import programs
from app.settings import load
from tests.support.guides import DOCS, ROOT, blocks

AWS = sorted((ROOT / "deploy/aws").glob("*.yaml"))
POOLS = [path for path in AWS if path.name.startswith("pool-")]


@pytest.mark.parametrize("path", AWS, ids=lambda path: path.name)
def test_cloudformation_finds_nothing_wrong(path: Path) -> None:
    pytest.importorskip("cfnlint")
    from cfnlint.api import ManualArgs, lint_file

    found = lint_file(path, config=ManualArgs(regions=["eu-central-1"]))
    assert not [str(match) for match in found]


@pytest.mark.parametrize("path", POOLS, ids=lambda path: path.name)
def test_aws_lets_the_scaler_call_what_its_executor_calls(path: Path) -> None:
    source = (ROOT / "workers/scaling/aws.py").read_text()
    service, name = ("autoscaling", "AutoScalingGroup") if "asg" in path.name else ("ecs", "EcsService")
    body = source.partition(f"class {name}")[2].partition("\nclass ")[0].partition("\ndef ")[0]
    called = set(re.findall(r"self\._client\.([a-z_]+)\(", body)) - {"get_paginator"}
    called |= set(re.findall(r'get_paginator\("([a-z_]+)"\)', body))
    actions = {"".join(word.title() for word in call.split("_")) for call in called}
    allowed = set(re.findall(rf"{service}:([A-Z][a-z]\w+)", path.read_text()))
    assert actions == allowed
    assert "cloudwatch:PutMetricData" in path.read_text()


class _Template(yaml.SafeLoader):
    """CloudFormation's YAML; `!Ref Name` is read as "Name"."""


_Template.add_multi_constructor(
    "!",
    lambda loader, _tag, node: (
        loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else node.value
    ),
)


def resources(kind: str) -> dict[str, dict[str, Any]]:
    template = yaml.load((ROOT / "deploy/aws/services-ecs.yaml").read_text(), _Template)
    return {
        name: item["Properties"]
        for name, item in template["Resources"].items()
        if item["Type"] == f"AWS::ECS::{kind}"
    }


TASKS = resources("TaskDefinition")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_settings_that_are_settings_and_secrets_by_reference(name: str) -> None:
    (container,) = TASKS[name]["ContainerDefinitions"]
    values = {
        "StorageUrl": "s3://bucket/prefix",
        "PublicUrl": "https://headrace.example.com",
        "HEADRACE_DATABASE_URL": "postgresql://h/d",
        "HEADRACE_REDIS_URL": "rediss://h/0",
        "HEADRACE_SECRET_KEY": "s" * 64,
    }
    given = {
        item["Name"]: values.get(item["Value"], item["Value"]) for item in container.get("Environment", ())
    }
    secrets = {item["Name"]: item["ValueFrom"] for item in container["Secrets"]}
    expected = {key: f"${{Settings}}:{key}::" for key in values if key.startswith("HEADRACE_")}
    own = "${Settings}:HEADRACE_API_DATABASE_URL::"
    if name in ("MigrateTask", "ApiTask"):
        expected["HEADRACE_API_DATABASE_URL"] = own
    if name == "ApiTask":
        # It never learns the owner's way to the database.
        expected["HEADRACE_DATABASE_URL"] = own
    assert secrets == expected
    load({**given, **{key: values.get(key, "postgresql://h/d") for key in secrets}})


def test_tasks_run_what_the_embedded_stack_runs() -> None:
    ours = {
        "ApiTask": programs.api(1),
        "SenderTask": programs.sender("http://127.0.0.1"),
        "ClerkTask": programs.clerk(),
        "SchedulerTask": programs.scheduler(),
    }
    assert set(TASKS) == {*ours, "MigrateTask"}
    for name, program in ours.items():
        (container,) = TASKS[name]["ContainerDefinitions"]
        modules = {word for word in program.command if re.match(r"(python:)?(app|workers)\.", word)}
        flags = {word for word in program.command[3:] if re.match(r"-{1,2}[a-zA-Z]", word)}
        assert modules | flags - {"--loglevel", "--bind"} <= set(container["Command"]) | {"-m"}, name
    assert set(resources("Service")) == {name.removesuffix("Task") for name in ours}


def test_the_sender_alone_has_the_group_that_reaches_the_internet() -> None:
    groups = {
        name: service["NetworkConfiguration"]["AwsvpcConfiguration"]["SecurityGroups"]
        for name, service in resources("Service").items()
    }
    assert [name for name, group in groups.items() if group == ["SenderSecurityGroup"]] == ["Sender"]


def test_the_pools_of_the_guide_are_pools_and_its_table_names_every_setting() -> None:
    guide = DOCS / "guides" / "scaling.md"
    (text,) = [block.text for block in blocks(guide) if block.language == "toml"]
    assert [pool.name for pool in pools.parse(text)] == ["batch-spot", "batch", "interactive"]
    table = guide.read_text()
    for name in Pool.model_fields:
        assert name == "name" or f"`{name}`" in table, name
    for executor in WHERE:
        assert f"`{executor}`" in table


def test_a_pool_elsewhere_loads_no_sdk_of_a_cloud() -> None:
    code = "import sys, workers.scaling.__main__, workers.scaling.local; print('boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
