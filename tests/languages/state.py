"""Works on stores, a line an operation, first on the store `counts`; says of an error of what kind it is."""

from plugsock import StreamRequestHandler, export
from plugsock_state import StateError, open_store


class State(StreamRequestHandler):
    def handle(self):
        self.store = open_store("counts")
        for line in self.rfile:
            try:
                answer = self.operate(line.decode().split())
            except StateError as error:
                answer = f"other: {error}" if error.code == "other" else error.code
            self.wfile.write(f"{answer}\n".encode())

    def operate(self, words):
        store = self.store
        match words:
            case ["open", name]:
                self.store = open_store(name)
                return "opened"
            case ["get", key]:
                value = store.get(key)
                return "none" if value is None else value.decode()
            case ["length", key]:
                return len(store.get(key))
            case ["set", key, value]:
                store.set(key, value.encode())
                return "set"
            case ["repeat", key, count]:
                store.set(key, b"v" * int(count))
                return "set"
            case ["fill", count]:
                for number in range(int(count)):
                    store.set(f"fill:{number}", b"x")
                return "filled"
            case ["del", key]:
                store.delete(key)
                return "deleted"
            case ["has", key]:
                return str(store.exists(key)).lower()
            case ["incr", key, delta]:
                return store.increment(key, int(delta))
            case ["cas", key, old, new]:
                expected = None if old == "none" else old.encode()
                return str(store.compare_and_swap(key, expected, new.encode())).lower()
            case ["add", key]:
                while True:
                    seen = store.get(key)
                    number = 0 if seen is None else int(seen)
                    if store.compare_and_swap(key, seen, b"%d" % (number + 1)):
                        return "added"
            case ["list", *prefix]:
                return " ".join(store.keys(*prefix))
            case ["count", *prefix]:
                return len(store.keys(*prefix))


RequestHandler = export(State)
