"""Pools as an operator declares them, in one TOML file:

    [pools.batch-spot]
    queues = ["cpu.batch"]
    purchase = "spot"
    price_per_hour = 0.031
    max = 20
    slots = 2
    executor = "local"

A pool is a kind of worker: what it serves, what it costs, how many there may be, and who starts them.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from app.domain.lanes import Device, parse_queue
from app.errors import SettingsError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]

WHERE: dict[str, tuple[str, ...]] = {
    "local": (),
    "kubernetes": ("namespace", "deployment"),
    "aws-asg": ("region", "group"),
    "aws-ecs": ("region", "cluster", "service"),
}
"""What each executor has to be told to find its machines, by the names that the pool has for it."""


class Pool(BaseModel):
    """One pool. Frozen; made by `parse` only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    queues: Annotated[tuple[str, ...], Field(min_length=1)]
    device: Device = Device.CPU
    """The kind of device; every queue is of it."""
    purchase: Literal["on_demand", "spot"] = "on_demand"
    price_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Of one machine, in any currency: the same for all pools."""
    min: Annotated[int, Field(ge=0, le=10_000)] = 0
    max: Annotated[int, Field(ge=1, le=10_000)]
    """Machines. One of them runs one worker."""
    slots: Annotated[int, Field(ge=1, le=1024)] = 1
    """Children of a worker."""
    target_s: Seconds = 60.0
    """How soon a backlog should be worked off. Less reacts faster, and buys more machines at a time."""
    cooldown_s: Seconds = 120.0
    """How long fewer machines must be enough before one is given back."""
    start_s: Seconds = 120.0
    """How long a machine takes from being asked for to its first claim. Nobody counts on a later one."""
    executor: Literal["local", "kubernetes", "aws-asg", "aws-ecs"] = "local"
    where: dict[str, Annotated[str, Field(min_length=1)]] = {}

    @property
    def spot(self) -> bool:
        return self.purchase == "spot"

    @property
    def price_per_slot(self) -> float:
        return self.price_per_hour / self.slots

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        wrong = []
        if self.min > self.max:
            wrong.append(f"min is {self.min} and max {self.max}: min must not be above max")
        for queue in self.queues:
            try:
                device, _ = parse_queue(queue)
            except ValueError as error:
                wrong.append(str(error))
                continue
            if device is not self.device:
                wrong.append(f"queue {queue} is no queue of device {self.device.value}")
        if len(set(self.queues)) < len(self.queues):
            wrong.append("a queue is named twice")
        needed = WHERE[self.executor]
        if set(self.where) != set(needed):
            names = ", ".join(needed) or "nothing"
            wrong.append(f"where must name {names} for executor {self.executor}")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


def read(path: Path) -> tuple[Pool, ...]:
    """The pools of a file. Raises `SettingsError` with a line for everything that is wrong with it."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError([f"HEADRACE_POOLS_FILE: can't read {path}: {reason}"]) from None
    return parse(text, str(path))


def parse(text: str, source: str = "pools") -> tuple[Pool, ...]:
    """The pools in the order of the text. Raises `SettingsError` with a line for everything that is wrong."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([f"{source}: not TOML: {error}"]) from None
    problems = [f"{source}: {key}: no such table; pools are [pools.NAME]" for key in tree if key != "pools"]
    tables = tree.get("pools")
    if not isinstance(tables, dict) or not tables:
        raise SettingsError([*problems, f"{source}: no pool is declared: write a table [pools.NAME]"])
    pools: list[Pool] = []
    for name, table in tables.items():
        try:
            pools.append(Pool.model_validate({**_table(table), "name": name}))
        except ValidationError as error:
            problems += [f"{source}: pools.{name}{line}" for line in _lines(error)]
    if problems:
        raise SettingsError(problems)
    return tuple(pools)


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"": value}


def _lines(error: ValidationError) -> Sequence[str]:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        place = "".join(f".{part}" for part in item["loc"])
        kind = item["type"]
        if kind == "extra_forbidden":
            lines.append(f"{place}: no such setting of a pool")
        elif kind == "missing":
            lines.append(f"{place}: is required")
        elif place == ".name":
            lines.append(": a name is lower case letters, digits and dashes, 31 at most")
        else:
            lines.append(f"{place}: {item['msg'].removeprefix('Value error, ')}")
    return lines
