"""A model provider's stand-in: it remembers what it was asked."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Upstream:
    """`asked`: method, path and headers of each request."""

    url: str = ""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextlib.contextmanager
def serving() -> Iterator[Upstream]:
    """Serve until the block ends."""
    told = Upstream()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            told.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"pong")

        do_GET = do_POST = do_OPTIONS = answer

        def log_message(self, *_: object) -> None:
            """It tells by `asked` alone."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        told.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield told
        finally:
            server.shutdown()
            thread.join()
