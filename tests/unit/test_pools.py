"""The file of pools: read whole, or refused with everything that is wrong."""

from pathlib import Path

import pytest

from app.domain import pools
from app.errors import SettingsError

GOOD = """
[pools.batch-spot]
queues = ["cpu.batch"]
purchase = "spot"
price_per_hour = 0.03
max = 20
slots = 2

[pools.gpu]
queues = ["gpu.interactive", "gpu.batch"]
device = "gpu"
price_per_hour = 1.2
min = 1
max = 4
executor = "aws-asg"
where = { region = "eu-central-1", group = "headrace-gpu" }
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        pools.parse(text, "f")
    return caught.value.problems


def test_a_good_file_is_its_pools_in_its_order() -> None:
    spot, gpu = pools.parse(GOOD)
    assert (spot.name, spot.spot, spot.min, spot.max, spot.slots) == ("batch-spot", True, 0, 20, 2)
    assert spot.price_per_slot == 0.015
    assert (gpu.name, gpu.executor, gpu.where["group"]) == ("gpu", "aws-asg", "headrace-gpu")


def test_everything_wrong_is_told_at_once_and_by_name() -> None:
    found = problems(
        """
        tick = 3
        [pools.a]
        queues = ["cpu.bulk", "gpu.batch", "gpu.batch"]
        max = 0
        colour = "red"
        [pools.b]
        queues = []
        purchase = "stolen"
        [pools.C]
        queues = ["cpu.batch"]
        max = 2
        min = 5
        price_per_hour = nan
        [pools.d]
        queues = ["cpu.batch", "gpu.batch", "cpu.batch"]
        max = 1
        min = 2
        executor = "aws-ecs"
        """
    )
    text = "\n".join(found)
    for part in (
        "f: tick: no such table",
        "pools.a.max: Input should be greater than or equal to 1",
        "pools.a.colour: no such setting of a pool",
        "pools.b.queues: Tuple should have at least 1 item",
        "pools.b.purchase: Input should be 'on_demand' or 'spot'",
        "pools.b.max: is required",
        "pools.C: a name is lower case letters",
        "pools.C.price_per_hour",
        "queue gpu.batch is no queue of device cpu",
        "a queue is named twice",
        "min is 2 and max 1",
        "where must name region, cluster, service for executor aws-ecs",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no pool is declared"),
        ("[pools", "not TOML"),
        ("pools = 3", "no pool"),
        ("[pools]\na = 3", "pools.a"),
    ],
)
def test_what_is_no_table_of_pools_is_said_so(text: str, said: str) -> None:
    assert said in "\n".join(problems(text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"can't read .*nowhere.toml: No such file"):
        pools.read(tmp_path / "nowhere.toml")
