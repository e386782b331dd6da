"""The signature of a webhook, after the Standard Webhooks specification.

Source: https://github.com/standard-webhooks/standard-webhooks (symmetric signatures, `v1`).
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
_BYTES = 32


def new_secret() -> str:
    """`whsec_` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_BYTES)).decode()


def sign(delivery_id: str, timestamp: int, body: bytes, secrets_: Iterable[str]) -> dict[str, str]:
    """The three headers. During a rotation there are two secrets, and a signature by each.

    Signed is `id.timestamp.body`, with what stands in base64 after `whsec_` as the key.
    """
    signed = b".".join((delivery_id.encode(), str(timestamp).encode(), body))
    signatures = []
    for secret in secrets_:
        key = base64.b64decode(secret.removeprefix(PREFIX))
        digest = hmac.new(key, signed, hashlib.sha256).digest()
        signatures.append(f"v1,{base64.b64encode(digest).decode()}")
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
