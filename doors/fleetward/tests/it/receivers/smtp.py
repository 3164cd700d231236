"""A mail server: says a line of JSON for each mail. With a certificate it wants STARTTLS and a
sign-in as `plane` with the password that is given."""

import email
import email.policy
import json
import socket
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

certificate, key, password = sys.argv[1:4]


class Receiver:
    refusals = 1

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        told = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "subject": mail["Subject"],
            "id": mail["Message-ID"],
            "headers": mail.keys(),
            "text": mail.get_content(),
            "encrypted": session.ssl is not None,
            "signed_in": session.authenticated,
        }
        print(json.dumps(told), flush=True)
        if Receiver.refusals:
            Receiver.refusals -= 1
            return "451 try again"
        return "250 taken"


def sign_in(server, session, envelope, mechanism, data):
    good = data.login == b"plane" and data.password == password.encode()
    return AuthResult(success=good, handled=True)


options = {}
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    options = {
        "tls_context": context,
        "require_starttls": True,
        "auth_required": True,
        "authenticator": sign_in,
    }


class OnAnyPort(Controller):
    def _trigger_server(self):
        """Sees that it listens: at the port it got, where the original would ask port 0."""
        port = self.server.sockets[0].getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.recv(1024)


controller = OnAnyPort(Receiver(), hostname="127.0.0.1", port=0, **options)
controller.start()
print(f"listening on {controller.server.sockets[0].getsockname()[1]}", flush=True)
threading.Event().wait()
