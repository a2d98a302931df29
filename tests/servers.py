"""A small HTTP server for tests: it honours ranges, or fails in whatever way a test asks for.

A test module gets the fixture `site` by importing `serve_site`.
"""

import contextlib
import re
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

OLD, NEW = bytes(range(256)) * 2000, bytes(reversed(range(256))) * 2000  # 512,000 bytes each


class Site:
    """What the test server does; `requests` holds the headers of each request it got."""

    def __init__(self):
        self.body, self.etag, self.last_modified = OLD, '"v1"', None
        self.ranges = self.if_range = self.length = True
        self.extra = {}  # further headers
        # for the next requests: a status, or ("cut" or "stall", bytes sent), or a function
        self.replies = deque()
        self.done = threading.Event()  # set: a line that stalls is cut at last
        self.requests = []
        self.url = ""


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        site: Site = self.server.site
        site.requests.append(dict(self.headers))
        reply = site.replies.popleft() if site.replies else None
        if callable(reply):
            reply = reply()
        if isinstance(reply, int):
            self.send_response(reply)
            for name, value in site.extra.items():
                self.send_header(name, value)
            self.end_headers()
            return
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        valid = self.headers.get("If-Range") in (None, site.etag, site.last_modified)
        if asked and site.ranges and (valid or not site.if_range):
            start = int(asked[1])
            if start >= len(site.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(site.body)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(site.body) - 1}/{len(site.body)}")
        else:
            self.send_response(200)
        headers = {"ETag": site.etag, "Last-Modified": site.last_modified, **site.extra}
        if site.length:
            headers["Content-Length"] = str(len(site.body) - start)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        data = site.body[start:]
        with contextlib.suppress(OSError):  # the client only wanted the headers
            self.wfile.write(data[: reply[1]] if reply else data)
            if reply and reply[0] == "stall":
                site.done.wait(5)


@pytest.fixture(name="site")
def serve_site(monkeypatch):
    """A running server on 127.0.0.1; yields its Site, whose `url` ends in a slash."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.site = Site()
    server.site.url = f"http://127.0.0.1:{server.server_port}/"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.site
    server.site.done.set()
    server.shutdown()
    server.server_close()
