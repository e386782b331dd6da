"""The templates of deploy/aws, offline: valid, and of one mind with the code and the guide about pools."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.domain import pools
from app.domain.pools import WHERE, Pool
from tests.support.guides import DOCS, ROOT, blocks

AWS = sorted((ROOT / "deploy/aws").glob("*.yaml"))


@pytest.mark.parametrize("path", AWS, ids=lambda path: path.name)
def test_cloudformation_finds_nothing_wrong(path: Path) -> None:
    pytest.importorskip("cfnlint")
    from cfnlint.api import ManualArgs, lint_file

    found = lint_file(path, config=ManualArgs(regions=["eu-central-1"]))
    assert not [str(match) for match in found]


@pytest.mark.parametrize("path", AWS, ids=lambda path: path.name)
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
