"""`client.models` and `client.workers`: what can be run, and what runs it."""

from datetime import datetime

from headrace.arguments import in_path
from headrace.record import Record
from headrace.transport import Transport


class Model(Record):
    """A model that jobs can name by its `id`. What the server says beyond that is in `raw`."""

    @property
    def version(self) -> str | None:
        """The version that a job gets if it names none."""
        return self._raw.get("version")

    @property
    def versions(self) -> list[str]:
        """Every version that a job may name."""
        return self._raw.get("versions") or []

    @property
    def description(self) -> str:
        """What it does, in its author's words."""
        return self._raw.get("description") or ""

    @property
    def created_at(self) -> datetime | None:
        """When that version was registered."""
        return self._moment("created")


class Worker(Record):
    """A worker process. What the server says beyond the attributes is in `raw`."""

    @property
    def name(self) -> str | None:
        """What operators call it."""
        return self._raw.get("name")

    @property
    def pool(self) -> str | None:
        """The named configuration it was started with."""
        return self._raw.get("pool")

    @property
    def purchase(self) -> str | None:
        """`on_demand`, or `spot` for a machine that may vanish."""
        return self._raw.get("purchase")

    @property
    def state(self) -> str | None:
        """`ready`, `draining`, `stopped` or `dead`."""
        return self._raw.get("state")

    @property
    def model(self) -> str | None:
        """What it is running now, as `name@version`; None if idle."""
        return self._raw.get("model")

    @property
    def heartbeat_at(self) -> datetime | None:
        """When it was last heard of."""
        return self._moment("heartbeat_at")


class Models:
    """What can be run."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[Model]:
        """Every model that the tenant may run.

        >>> [model.id for model in client.models.list()]
        ['echo']
        """
        return [Model(raw) for raw in self._transport.request("GET", "/v1/models").data["data"]]

    def get(self, model_id: str) -> Model:
        """One model, by `name` or `name@version`. Raises `NotFoundError`."""
        path = f"/v1/models/{in_path(model_id, 'a model', safe='@')}"
        return Model(self._transport.request("GET", path).data)


class Workers:
    """What runs it. Needs a key with the `admin` scope."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[Worker]:
        """Every worker process the server has heard of lately."""
        return [Worker(raw) for raw in self._transport.request("GET", "/v1/workers").data["data"]]
