"""Files as bytes: streamed in, streamed out, and either whole or not there."""

from app.storage.store import NotConfigured, Storage, StorageMissing, Writer

__all__ = ["NotConfigured", "Storage", "StorageMissing", "Writer"]
