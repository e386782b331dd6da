"""An ECS service in small, behind boto3's own client: it checks what it is asked by, and nothing is sent.

Like ECS it brings tasks up to the desired count, and of too many stops only those that are not protected.
"""

from typing import Any

import boto3
from botocore.exceptions import ClientError

ARN = "arn:aws:ecs:eu-central-1:123456789012:task/headrace/"


class Service:
    """One service and its tasks. `settle` does what ECS would do in its own time."""

    def __init__(self) -> None:
        self.desired, self.made, self.away = 0, 0, False
        self.tasks: dict[str, str] = {}
        self.protected: set[str] = set()

    def client(self) -> Any:
        client = boto3.client(
            "ecs", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="y"
        )
        client.meta.events.register("before-call.ecs", self._call)
        return client

    def settle(self) -> None:
        self.tasks = {id: state for id, state in self.tasks.items() if state != "STOPPED"}
        for id in self.tasks:
            self.tasks[id] = "RUNNING"
        while len(self.tasks) < self.desired:
            self.made += 1
            self.tasks[f"{self.made:032x}"] = "RUNNING"
        for id in sorted(set(self.tasks) - self.protected)[: max(0, len(self.tasks) - self.desired)]:
            del self.tasks[id]

    def _call(self, model: Any, params: Any, **_: Any) -> Any:
        import orjson

        if self.away:
            raise ClientError({"Error": {"Code": "ServerException", "Message": "away"}}, model.name)
        asked = orjson.loads(params["body"])

        class Answer:
            status_code = 200

        return Answer(), getattr(self, model.name)(asked)

    def DescribeServices(self, asked: Any) -> Any:
        known = asked["services"] == ["batch"]
        return {"services": [{"serviceName": "batch", "desiredCount": self.desired}] if known else []}

    def UpdateService(self, asked: Any) -> Any:
        self.desired = asked["desiredCount"]
        return {}

    def ListTasks(self, asked: Any) -> Any:
        return {"taskArns": [ARN + id for id in self.tasks]}

    def DescribeTasks(self, asked: Any) -> Any:
        ids = [arn.rpartition("/")[2] for arn in asked["tasks"]]
        return {"tasks": [{"taskArn": ARN + id, "lastStatus": self.tasks[id]} for id in ids]}

    def UpdateTaskProtection(self, asked: Any) -> Any:
        assert len(asked["tasks"]) <= 10
        change = self.protected.update if asked["protectionEnabled"] else self.protected.difference_update
        change(asked["tasks"])
        return {"protectedTasks": [], "failures": []}
