"""What an API key may do. The names are the API's, so none ever changes its meaning."""

from typing import Literal, get_args

Scope = Literal[
    "jobs:read",
    "jobs:write",
    "batches:read",
    "batches:write",
    "files:read",
    "files:write",
    "webhooks:read",
    "webhooks:write",
    "admin",
]
SCOPES: tuple[Scope, ...] = get_args(Scope)
USUAL_SCOPES: tuple[Scope, ...] = tuple(scope for scope in SCOPES if scope != "admin")
"""What a key may do if nothing is said. `admin` is the operator's, and given by name only."""
