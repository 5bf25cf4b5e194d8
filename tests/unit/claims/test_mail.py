"""Links by mail: encrypted or not at all, and nothing about the receiver in any error or log."""

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from ledger.claims import mail
from ledger.errors import Unavailable
from ledger.settings import Settings

from .test_fetching import _certificate

LINK = "https://ledger.example.org/sign-in/secret"


@dataclass
class Server:
    """A mail server of one conversation: enough of RFC 5321 and RFC 3207 to take a message, or to refuse."""

    certificate: Path
    key: Path
    offers_tls: bool = True
    refuses: bool = False
    encrypted: bool = False
    received: list[str] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        try:
            self._talk(connection, context)
        except OSError:
            pass
        finally:
            connection.close()

    def _talk(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        connection.sendall(b"220 test\r\n")
        reading = connection.makefile("rb")
        while line := reading.readline():
            word = line.split()[0].upper() if line.split() else b""
            if word == b"EHLO":
                tls = b"250-STARTTLS\r\n" if self.offers_tls and not self.encrypted else b""
                connection.sendall(b"250-test\r\n" + tls + b"250 OK\r\n")
            elif word == b"STARTTLS":
                connection.sendall(b"220 go\r\n")
                connection = context.wrap_socket(connection, server_side=True)
                reading, self.encrypted = connection.makefile("rb"), True
            elif word == b"RCPT" and self.refuses:
                connection.sendall(b"550 jane@example.org is unknown here\r\n")
            elif word == b"DATA":
                connection.sendall(b"354 go\r\n")
                while (text := reading.readline()) not in {b".\r\n", b""}:
                    self.received.append(text.decode())
                connection.sendall(b"250 taken\r\n")
            elif word == b"QUIT":
                connection.sendall(b"221 bye\r\n")
                return
            else:
                connection.sendall(b"250 OK\r\n")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Server, Settings, ssl.SSLContext]]:
    certificate, key = _certificate(tmp_path, "localhost")
    talking = Server(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=talking.serve, args=(listener,))
        thread.start()
        url = f"smtp://localhost:{listener.getsockname()[1]}"
        settings = Settings(_env_file=None, home=tmp_path, smtp_url=url, mail_from="ledger@example.org")
        yield talking, settings, ssl.create_default_context(cafile=str(certificate))
        thread.join(10)
    assert not thread.is_alive()


Given = tuple[Server, Settings, ssl.SSLContext]


def test_a_link_goes_out_encrypted(server: Given) -> None:
    talking, settings, context = server
    mail.send_link(settings, "jane@example.org", LINK, 20, context)
    text = "".join(talking.received)
    assert talking.encrypted
    assert LINK in text
    assert "To: jane@example.org" in text
    assert "From: ledger@example.org" in text


def test_a_server_without_tls_gets_nothing(server: Given) -> None:
    talking, settings, context = server
    talking.offers_tls = False
    with pytest.raises(Unavailable) as refused:
        mail.send_link(settings, "jane@example.org", LINK, 20, context)
    assert refused.value.code == "mail_not_sent"
    assert talking.received == []


def test_a_server_with_a_strange_certificate_gets_nothing(server: Given) -> None:
    talking, settings, _ = server
    with pytest.raises(Unavailable):
        mail.send_link(settings, "jane@example.org", LINK, 20)
    assert talking.received == []


def test_a_refusal_does_not_repeat_the_address(server: Given) -> None:
    talking, settings, context = server
    talking.refuses = True
    with pytest.raises(Unavailable) as refused:
        mail.send_link(settings, "jane@example.org", LINK, 20, context)
    assert "jane" not in f"{refused.value.detail} {refused.value.next_step}"


def test_without_a_server_the_link_is_in_the_log_and_the_address_is_not(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logged:
        mail.send_link(Settings(_env_file=None, home=tmp_path), "jane@example.org", LINK, 20)
    (line,) = logged
    assert line["link"] == LINK
    assert "jane" not in str(line)


def test_a_setting_that_is_no_mail_servers_is_told_without_its_password(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path, smtp_url="http://u:hunter2@x.org", mail_from="l@x.org")
    with pytest.raises(Unavailable) as refused:
        mail.send_link(settings, "jane@example.org", LINK, 20)
    assert "hunter2" not in refused.value.detail
