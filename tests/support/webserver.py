"""A small HTTP server for tests: it responds to GET with one text, and keeps what is posted to it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Posts = queue.Queue[tuple[str, bytes]]
"""Path and body of each POST."""


@contextlib.contextmanager
def webserver(text: str = "") -> Iterator[tuple[str, Posts]]:
    """Its address (``127.0.0.1:port``), and the posts it receives."""
    posts: Posts = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.respond(text.encode())

        def do_POST(self) -> None:
            posts.put((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.respond(b"")

        def respond(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", posts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
