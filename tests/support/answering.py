"""A stand-in for a process that listens: answers 200 to everything on the port that the variable it is given names."""

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class _Yes(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(os.environ[sys.argv[1]])), _Yes).serve_forever()
