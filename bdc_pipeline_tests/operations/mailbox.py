"""A mail server on loopback that keeps what it is sent."""

from __future__ import annotations

import base64
import socketserver
import threading
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class Mailbox:
    """What came: messages, the recipients of each, and who logged in with what. `refuses` makes it take no recipient."""

    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)
    refuses: bool = False
    accepts_login: bool = True
    port: int = 0


class _Session(socketserver.StreamRequestHandler):
    def say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())

    def handle(self) -> None:
        box: Mailbox = self.server.box  # type: ignore[attr-defined]
        to: list[str] = []
        self.say("220 loopback")
        while line := self.rfile.readline():
            verb, _, rest = line.decode().strip().partition(" ")
            match verb.upper():
                case "EHLO":
                    self.say("250-loopback", "250 AUTH PLAIN")
                case "AUTH":
                    box.logins.append(base64.b64decode(rest.partition(" ")[2]))
                    self.say("235 welcome" if box.accepts_login else f"535 no: {rest}")
                case "RCPT":
                    to.append(rest.partition(":")[2].strip("<>"))
                    self.say("550 no such mailbox" if box.refuses else "250 ok")
                case "DATA":
                    self.say("354 go on")
                    data = b""
                    while (part := self.rfile.readline()) != b".\r\n":
                        data += part.removeprefix(b".") if part.startswith(b"..") else part
                    message = message_from_bytes(data, policy=policy.default)
                    assert isinstance(message, EmailMessage)
                    box.messages.append(message)
                    box.recipients.append(to)
                    to = []
                    self.say("250 taken")
                case "QUIT":
                    self.say("221 bye")
                    return
                case "STARTTLS":
                    self.say("502 not here")
                case _:
                    self.say("250 ok")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class MailServer:
    """Serves a mailbox until it is closed."""

    def __init__(self) -> None:
        self.box = Mailbox()
        self._server = _Server(("127.0.0.1", 0), _Session)
        self._server.box = self.box  # type: ignore[attr-defined]
        self.box.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
