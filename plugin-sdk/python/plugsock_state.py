"""State that outlives a request: the stores that the server grants (`--state`).

    counts = open_store("counts")
    visits = counts.increment("visits")

A handler that imports this imports the stores; builds see it by the import.
"""

from componentize_py_types import Err
from wit_world.imports import atomics, store

__all__ = ["StateError", "Store", "open_store"]


class StateError(OSError):
    """Why an operation on a store failed."""

    def __init__(self, code, message=None):
        super().__init__(_WORDS[code] if message is None else message)
        # The contract's: "no-such-store", "access-denied", or "other", which has words of its own.
        self.code = code


def open_store(name):
    """Opens the store that the server grants under this name."""
    return Store(_call(store.open, name))


class Store:
    """Values by their keys, which all requests of all handlers share that are granted the store. Values are bytes."""

    def __init__(self, raw):
        self.raw = raw

    def get(self, key):
        """The value of a key; `None` if it has none."""
        return _call(self.raw.get, key)

    def set(self, key, value):
        """Sets the value of a key, whether it had one or not."""
        _call(self.raw.set, key, bytes(value))

    def delete(self, key):
        """Deletes a key; nothing happens if it has no value."""
        _call(self.raw.delete, key)

    def exists(self, key):
        """Whether a key has a value."""
        return _call(self.raw.exists, key)

    def increment(self, key, delta=1):
        """Adds to the number that a key has, and returns the sum, whoever else adds to it at once. A key without a value
        has 0; the value is the number as decimal text."""
        return _call(atomics.increment, self.raw, key, delta)

    def compare_and_swap(self, key, expected, value):
        """Replaces the value of a key if it is the one expected, `None` for none; whether it was."""
        seen = _call(atomics.Cas.new, self.raw, key)
        if _call(seen.current) != expected:
            return False
        try:
            atomics.swap(seen, bytes(value))
            return True
        except Err as error:
            match error.value:
                case atomics.CasError_CasFailed():
                    return False
                case atomics.CasError_StoreError(failure):
                    raise _exception(failure) from None

    def keys(self, prefix=""):
        """All keys that begin with `prefix`, in order. It has the whole store looked through."""
        # A store may show a key twice that others work on meanwhile.
        keys, cursor = set(), None
        while True:
            page = _call(self.raw.list_keys, cursor)
            keys.update(key for key in page.keys if key.startswith(prefix))
            cursor = page.cursor
            if cursor is None:
                return sorted(keys)


_WORDS = {
    "no-such-store": "the server grants no store of this name",
    "access-denied": "the server grants the store for reading only",
}


def _call(function, *arguments):
    try:
        return function(*arguments)
    except Err as error:
        raise _exception(error.value) from None


def _exception(error):
    match error:
        case store.Error_NoSuchStore():
            return StateError("no-such-store")
        case store.Error_AccessDenied():
            return StateError("access-denied")
        case store.Error_Other(words):
            return StateError("other", words)
