#!/usr/bin/python3
"""A service to try things with: answers every GET with a greeting, and with what another such service says, if it is told of one.

PORT is where it listens (80), GREETING what it says (hello), UPSTREAM host:port of the other, which is asked at each request.
"""

import http.server
import os
import urllib.request

TIMEOUT_S = 5.0


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        said = os.environ.get("GREETING", "hello")
        if upstream := os.environ.get("UPSTREAM"):
            with urllib.request.urlopen(f"http://{upstream}/", timeout=TIMEOUT_S) as answer:
                said += ", " + answer.read(1000).decode().strip()
        body = f"{said}\n".encode()
        self.send_response(http.HTTPStatus.OK)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("", int(os.environ.get("PORT", "80"))), Hello).serve_forever()
