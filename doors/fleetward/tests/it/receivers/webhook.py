"""A receiver of webhooks: answers as it is told, and says a line of JSON for each message."""

import http.server
import json
import ssl
import sys
import threading
import time

folder, secret, answers, certificate, key = sys.argv[1:6]
sys.path.insert(0, folder)
import webhook  # noqa: E402

answers = answers.split(",")


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        header = self.headers["Fleetward-Signature"]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        told = {
            "verified": webhook.verify(secret, header, body, time.time()),
            "forged": webhook.verify(secret, header, body + b" ", time.time())
            or webhook.verify(secret + "x", header, body, time.time())
            or webhook.verify(secret, header, body, time.time() + 301),
            "id": self.headers["Idempotency-Key"],
            "host": self.headers["Host"],
            "body": json.loads(body),
            "answer": answer,
        }
        print(json.dumps(told), flush=True)
        if answer == "hang":
            threading.Event().wait()
        status = int(answer)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        if status == 200:
            # Longer than anybody should read.
            self.send_header("Content-Length", str(1 << 40))
        self.end_headers()
        try:
            self.wfile.write(b"x" * 65536)
        except OSError:
            pass

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
server.daemon_threads = True
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(f"listening on {server.server_port}", flush=True)
server.serve_forever()
