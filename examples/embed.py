"""An application around a bundle: a web service that labels the pictures posted to it.

python embed.py emotion.edge 8000
curl --data-binary @face.png http://localhost:8000
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import edgekit

model = edgekit.load(sys.argv[1])  # once; the threads of the server share it


class Labeler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        picture = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            status, answer = 200, model.predict(picture)
        except edgekit.errors.InputError as error:
            status, answer = 400, {"error": str(error)}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer, default=str).encode())


ThreadingHTTPServer(("localhost", int(sys.argv[2])), Labeler).serve_forever()
