"""Which pools are declared: from on demand only to spot only. All may have 1,000 machines together."""

from app.domain.pools import Pool

INTERACTIVE, BATCH = "gpu.interactive", "gpu.batch"
FRONT_S, BULK_S = 1.0, 900.0
"""`target_s`. An interactive window is 1.4 s of work: with less, more machines than windows are kept."""
ON_DEMAND, BULK_ON_SPOT, FLOOR, ALL_ON_SPOT = (
    "on demand only",
    "batches on spot, spill",
    "all on spot, spill, floor",
    "spot only",
)


def plans(spot_price: float) -> dict[str, list[Pool]]:
    """By name, the pools. An on-demand machine costs 1 an hour."""
    front, bulk = _pool("front", INTERACTIVE, 100, least=4), _pool("bulk", BATCH, 900)
    spill = _pool("bulk", BATCH, 300)
    spot = _pool("bulk-spot", BATCH, 600, spot_price)
    front_spot = _pool("front-spot", INTERACTIVE, 100, spot_price, least=4)
    # Half of what the mean load of a front needs stays on demand.
    floor = _pool("front", INTERACTIVE, 50, least=5)
    return {
        ON_DEMAND: [front, bulk],
        BULK_ON_SPOT: [front, spill, spot],
        FLOOR: [floor, front_spot, spill.model_copy(update={"max": 250}), spot],
        ALL_ON_SPOT: [front_spot, _pool("bulk-spot", BATCH, 900, spot_price)],
    }


def _pool(name: str, queue: str, most: int, price: float | None = None, least: int = 0) -> Pool:
    interactive = queue == INTERACTIVE
    return Pool.model_validate(
        {
            "name": name,
            "queues": [queue],
            "device": "gpu",
            "purchase": "on_demand" if price is None else "spot",
            "price_per_hour": 1.0 if price is None else price,
            "min": least,
            "max": most,
            "target_s": FRONT_S if interactive else BULK_S,
            "cooldown_s": 300.0,
            "start_s": 180.0,
        }
    )
