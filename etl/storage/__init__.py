"""One small object-store interface: a local folder or S3."""

from etl.storage.base import LastingError, NotFoundError, ObjectInfo, StorageError, Store
from etl.storage.local import LocalStore
from etl.storage.open import open_store

__all__ = ["LastingError", "LocalStore", "NotFoundError", "ObjectInfo", "StorageError", "Store", "open_store"]
