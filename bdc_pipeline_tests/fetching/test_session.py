from __future__ import annotations

import base64
import errno
import gzip
import json
import logging
import socket
import ssl
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError
from urllib3.util.retry import Retry

from bdc_pipeline.fetching.pacing import Pacer
from bdc_pipeline.fetching.redaction import RedactingFilter, Redactor
from bdc_pipeline.fetching.session import (
    Answer,
    ApiSession,
    BadAnswer,
    FetchError,
    Refused,
    Stats,
    Throttled,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unreachable,
)
from bdc_pipeline.fetching.stopping import Stop, Stopped
from bdc_pipeline.fetching.trouble import spent, trouble_of, wait_before_retry
from bdc_pipeline_tests.ports import nobody
from bdc_pipeline_tests.waiting import SECONDS, until

from .loopback import Connection, Reply, Request, Server, reply

TOKEN = "glpat-S3cr3t/T0ken+x"
Serve = Callable[..., Server]


def content(answer: Answer) -> bytes:
    return answer.content


def parsed_json(answer: Answer):
    if not answer.content:
        raise BadAnswer("The answer is empty.")
    if answer.content_type != "application/json":
        raise BadAnswer(f"The answer is no JSON but {answer.content_type}: {answer.text_start()}")
    return json.loads(answer.content)


def session_for(server: Server, **options) -> ApiSession:
    settings = {"secret_headers": {"PRIVATE-TOKEN": TOKEN}, "backoff": 0.01, "read_timeout": 30.0, **options}
    return ApiSession(settings.pop("base_url", server.url), **settings)


def as_json(value) -> bytes:
    return reply(json.dumps(value).encode(), Content_Type="application/json")


def cut_body(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n[1, 2")


def cut_chunk(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe")


def reset_in_body(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n[1, 2")
    connection.reset()


def no_http(connection: Connection) -> None:
    connection.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


HTML = reply(b"<html>maintenance</html>", Content_Type="text/html")
CUT_GZIP = reply(gzip.compress(b"[1, 2, 3]" * 50)[:-9], Content_Encoding="gzip")
DAMAGED_GZIP = reply(b"no gzip at all", Content_Encoding="gzip")

FAULTS: dict[str, tuple[Reply, type[FetchError], str]] = {
    "429, again at once": (reply(status=429, Retry_After="0"), Throttled, "the server answered 429 (ok)."),
    "429": (reply(b"", status=429), Throttled, "the server answered 429."),
    "503": (reply(b"busy", status=503), BadAnswer, "the server answered 503 (busy)."),
    "500": (reply(b"oops", status=500), BadAnswer, "the server answered 500 (oops)."),
    "408": (reply(b"slow", status=408), BadAnswer, "the server answered 408 (slow)."),
    "HTML": (HTML, BadAnswer, "The answer is no JSON but text/html: <html>maintenance</html>."),
    "empty": (reply(b""), BadAnswer, "The answer is empty."),
    "cut body": (cut_body, BadAnswer, "the body was cut short."),
    "cut chunk": (cut_chunk, BadAnswer, "the body was cut short."),
    "reset in the body": (reset_in_body, BadAnswer, "the body was cut short."),
    "cut gzip": (CUT_GZIP, BadAnswer, "the compressed body was cut short."),
    "damaged gzip": (DAMAGED_GZIP, BadAnswer, "the compressed body is damaged"),
    "no HTTP": (no_http, BadAnswer, "answered with something that is not HTTP."),
    "reset": (Connection.reset, Unreachable, "closed the connection without an answer."),
    "closed": (lambda connection: None, Unreachable, "closed the connection without an answer."),
    "stall": (Connection.stall, TimedOut, "there was no answer for 0.15 s."),
}


# What goes out and what comes in


def test_an_answer_has_status_headers_content_and_where_it_came_from(serve: Serve):
    server = serve(reply(b'{"a": 1}', 200, Content_Type="Application/JSON; charset=utf-8", X_Total="7"))
    with session_for(server) as session:
        answer = session.fetch("GET", "/items", params={"page": 2, "q": "a b"}, parse=lambda answer: answer)
    assert (answer.status, answer.content, answer.content_type) == (200, b'{"a": 1}', "application/json")
    assert (answer.headers["x-total"], answer.headers["X-TOTAL"]) == ("7", "7")
    assert answer.url == f"{server.url}/items?page=2&q=a+b"
    assert 0 <= answer.seconds < 5
    [request] = server.requests
    assert (request.method, request.target) == ("GET", "/items?page=2&q=a+b")
    assert request.headers["private-token"] == TOKEN


def test_json_and_bytes_are_posted(serve: Serve):
    server = serve(reply())
    with session_for(server, headers={"X-App": "one"}) as session:
        session.fetch("post", "/graphql", json={"query": "{a}"}, headers={"X-Call": "two"}, parse=content)
        session.fetch("POST", "/raw", data=b"abc", parse=content)
    first, second = server.requests
    assert (first.method, json.loads(first.body)) == ("POST", {"query": "{a}"})
    assert first.headers["content-type"] == "application/json"
    assert (first.headers["x-app"], first.headers["x-call"]) == ("one", "two")
    assert second.body == b"abc"


@pytest.mark.parametrize(
    ("prefix", "path", "target"),
    [
        ("/sonar", "/api/graphql", "/sonar/api/graphql"),
        ("/sonar/", "api/graphql", "/sonar/api/graphql"),
        ("", "/api", "/api"),
        ("/", "api", "/api"),
        ("", "//elsewhere.example/api", "/elsewhere.example/api"),
        ("/sonar", "", "/sonar"),
        ("", "/projects/a%2Fb", "/projects/a%2Fb"),
    ],
)
def test_paths_go_below_the_base_address(serve: Serve, prefix, path, target):
    server = serve(reply())
    with session_for(server, base_url=server.url + prefix) as session:
        session.fetch("GET", path, parse=content)
    assert server.requests[0].target == target


def test_a_whole_address_on_another_port_gets_no_credentials(serve: Serve):
    server, other = serve(reply()), serve(reply(b"theirs"))
    with session_for(server) as session:
        assert session.fetch("GET", f"{other.url}/file", headers={"Cookie": "a=b"}, parse=content) == b"theirs"
        session.fetch("GET", f"{server.url}/file", parse=content)
    assert not {"private-token", "cookie"} & set(other.requests[0].headers)
    assert server.requests[0].headers["private-token"] == TOKEN


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b"hello"), "gzip"),
        (gzip.compress(b"hel") + gzip.compress(b"lo"), "gzip"),
        (zlib.compress(b"hello"), "deflate"),
        (zlib.compress(b"hello", wbits=-15), "deflate"),
        (gzip.compress(zlib.compress(b"hello")), "deflate, gzip"),
        (b"hello", "identity"),
    ],
    # A gzip body holds the time, which must not get into the names of the tests: workers compare these
    ids=["gzip", "two members", "deflate", "raw deflate", "twice", "identity"],
)
def test_bodies_are_decompressed(serve: Serve, body, encoding):
    server = serve(reply(body, Content_Encoding=encoding))
    with session_for(server) as session:
        assert session.fetch("GET", "/", parse=content) == b"hello"
        assert session.stats.snapshot() == Stats(1, 0, len(body))
    assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


def test_a_body_in_chunks_is_put_together_and_its_connection_used_again(serve: Serve):
    server = serve(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    with session_for(server) as session:
        for _ in range(3):
            assert session.fetch("GET", "/", parse=content) == b"hello world"
    assert server.connections == 1


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_not_modified_is_an_answer(serve: Serve, method):
    server = serve(b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")
    with session_for(server) as session:
        for _ in range(2):
            assert session.fetch(method, "/", parse=lambda answer: (answer.status, answer.content)) == (304, b"")
    assert server.connections == 1


def test_the_time_on_the_server_is_that_of_its_latest_answer(serve: Serve):
    dates = ["Tue, 01 Jul 2025 10:00:00 GMT", "Tue, 01 Jul 2025 10:00:05 GMT", "nonsense"]
    server = serve(*(reply(Date=date) for date in dates))
    with session_for(server) as session:
        seen = [session.server_time]
        for _ in dates:
            session.fetch("GET", "/", parse=content)
            seen.append(session.server_time)
    ten = datetime(2025, 7, 1, 10, tzinfo=UTC)
    assert seen == [None, ten, ten.replace(second=5), None]


def test_cookies_are_not_kept(serve: Serve):
    server = serve(reply(Set_Cookie="session=1; Path=/"))
    with session_for(server) as session:
        for _ in range(2):
            session.fetch("GET", "/", parse=content)
    assert "cookie" not in server.requests[1].headers


def test_a_proxy_from_the_environment_is_used(serve: Serve, monkeypatch):
    proxy = serve(reply(b"by proxy"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://user:pr0xypass@127.0.0.1:{proxy.port}")
    with ApiSession("http://api.example") as session:
        monkeypatch.delenv("http_proxy")
        assert session.fetch("GET", "/a", parse=content) == b"by proxy"
        assert session.redact("pr0xypass") == "***"
    assert proxy.requests[0].target == "http://api.example/a"


def test_as_many_connections_are_opened_as_there_are_threads(serve: Serve):
    together = threading.Barrier(6)

    def respond(request: Request) -> bytes:
        if request.target == "/together":
            together.wait(SECONDS)
        return reply()

    server = serve(respond=respond)
    with session_for(server, workers=6) as session:

        def work() -> None:
            for _ in range(3):
                session.fetch("GET", "/together", parse=content)
            for _ in range(20):
                session.fetch("GET", "/", parse=content)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert session.stats.requests == 6 * 23
    assert server.connections == 6


# Trying again


@pytest.mark.parametrize("fault", FAULTS)
def test_a_passing_fault_costs_a_retry_and_no_result(serve: Serve, fault):
    server = serve(FAULTS[fault][0], FAULTS[fault][0], as_json([1]))
    # not so short that the good answer may come too late
    with session_for(server, read_timeout=1.0 if fault == "stall" else 30.0) as session:
        assert session.fetch("GET", "/", parse=parsed_json) == [1]
        stats = session.stats.snapshot()
    assert (stats.requests, stats.retries) == (3, 2)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_lasting_fault_is_told_in_a_sentence_without_secrets(serve: Serve, caplog, fault, method):
    given, error, sentence = FAULTS[fault]
    server = serve(given)
    caplog.set_level(logging.DEBUG)
    with (
        session_for(server, attempts=2, read_timeout=0.15 if fault == "stall" else 30.0) as session,
        pytest.raises(error) as raised,
    ):
        session.fetch(method, "/items", params={"token": TOKEN}, parse=parsed_json)
    assert type(raised.value) is error
    assert str(raised.value).startswith(f"{method} {server.url}/items?token=*** failed after 2 attempts: ")
    assert sentence in str(raised.value)
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)
    assert session.stats.snapshot() == Stats(2, 1, session.stats.bytes)
    assert server.requests[0].headers["private-token"] == TOKEN
    assert_silent(caplog, raised.value, session)


def assert_silent(caplog, error: BaseException, session: ApiSession) -> None:
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(session) + caplog.text
    for form in (TOKEN, "glpat-S3cr3t%2FT0ken%2Bx", base64.b64encode(TOKEN.encode()).decode().rstrip("=")):
        assert form not in shown


def test_after_as_long_as_retry_after_says_it_is_tried_again(serve: Serve):
    arrivals: list[float] = []

    def respond(request: Request) -> bytes:
        arrivals.append(time.monotonic())
        return reply(status=429, Retry_After="1") if len(arrivals) == 1 else reply()

    with session_for(serve(respond=respond)) as session:
        session.fetch("GET", "/", parse=content)
        assert session.pacer.pauses == 1
        assert session.stats.retries == 1
    # as the server sees it: the session counts from when the answer has come to it
    assert len(arrivals) == 2
    assert arrivals[1] - arrivals[0] >= 1.0


def test_an_answer_that_parse_calls_throttled_makes_all_wait(serve: Serve):
    server = serve(reply(b"slow down"), reply())

    def parse(answer: Answer) -> bytes:
        if answer.content == b"slow down":
            raise Throttled("The server is asked too much.", retry_after=0.2)
        return answer.content

    with session_for(server) as session:
        assert session.fetch("GET", "/", parse=parse) == b"ok"
        assert (session.pacer.pauses, session.pacer.limit, session.stats.retries) == (1, 5, 1)


def test_one_budget_covers_all_faults(serve: Serve):
    server = serve(Connection.reset, reply(status=503), cut_body, HTML, as_json([1]))
    with session_for(server) as session, pytest.raises(BadAnswer, match="after 4 attempts: The answer is no JSON"):
        session.fetch("GET", "/", parse=parsed_json)
    assert len(server.requests) == 4


def test_a_call_can_have_attempts_of_its_own(serve: Serve):
    server = serve(reply(status=503))
    with session_for(server) as session:
        with pytest.raises(BadAnswer, match=r"/ failed: the server answered 503"):
            session.fetch("GET", "/", attempts=1, parse=content)
        with pytest.raises(ValueError, match="at least one attempt"):
            session.fetch("GET", "/", attempts=0, parse=content)


def test_time_outs_can_have_a_budget_of_their_own(serve: Serve):
    server = serve(reply(status=503), reply(status=503), Connection.stall, reply())
    with session_for(server, read_timeout=1.0) as session, pytest.raises(TimedOut, match="after 3 attempts"):
        session.fetch("GET", "/", timeout_attempts=1, parse=content)


def test_an_answer_is_parsed_once_and_other_errors_of_parse_pass(serve: Serve):
    server = serve(reply(b"no number"))
    with session_for(server) as session, pytest.raises(ValueError, match="invalid literal"):
        session.fetch("GET", "/", parse=lambda answer: int(answer.content))
    assert len(server.requests) == 1


def test_an_error_that_parse_raises_is_redacted_too(serve: Serve):
    server = serve(reply(f"your token {TOKEN} is odd".encode()))

    def parse(answer: Answer) -> None:
        try:
            int(answer.content)
        except ValueError as error:
            raise BadAnswer(f"Odd: {answer.content.decode()}") from error

    with (
        session_for(server, attempts=1) as session,
        pytest.raises(BadAnswer, match=r"Odd: your token \*\*\*") as raised,
    ):
        session.fetch("GET", "/", parse=parse)
    assert TOKEN not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 422, 501])
def test_what_will_not_change_is_refused_at_once_with_what_the_server_said(serve: Serve, status):
    server = serve(reply(b'{"message":\n  "' + TOKEN.encode() + b' has no scope"}', status))
    with session_for(server) as session, pytest.raises(Refused) as raised:
        session.fetch("POST", "/items", parse=content)
    assert str(raised.value) == (
        f'POST {server.url}/items failed: the server answered {status} ({{"message": "*** has no scope"}}).'
    )
    assert (raised.value.status, len(server.requests), session.stats.retries) == (status, 1, 0)


def test_a_refused_token_is_unauthorized_at_once(serve: Serve):
    server = serve(reply(b"", 401))
    with session_for(server) as session, pytest.raises(Unauthorized, match="Check that the token is right") as raised:
        session.fetch("GET", "/", parse=content)
    assert (raised.value.status, len(server.requests)) == (401, 1)


def test_a_body_that_is_too_large_is_refused(serve: Serve):
    server = serve(reply(b"x" * 5000), reply(gzip.compress(b"x" * 5000), Content_Encoding="gzip"))
    with session_for(server, max_bytes=1000) as session:
        for _ in range(2):
            with pytest.raises(TooLarge, match="larger than the 1000 bytes allowed") as raised:
                session.fetch("GET", "/", parse=content)
            assert raised.value.status == 200


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_of_an_error_the_status_counts_however_much_it_has_to_say(serve: Serve, encoding: str):
    long = b"x" * 5000 if encoding == "identity" else gzip.compress(b"x" * 5000)
    passing = reply(long, 503, Content_Encoding=encoding)
    with session_for(serve(passing, reply(b"there")), max_bytes=1000) as session:
        assert session.fetch("GET", "/", parse=content) == b"there"
    with session_for(serve(reply(long, 404, Content_Encoding=encoding)), max_bytes=1000) as session:
        with pytest.raises(Refused, match="answered 404") as raised:
            session.fetch("GET", "/", parse=content)
        assert (raised.value.status, raised.value.said, type(raised.value)) == (404, "", Refused)


def test_a_session_that_is_closed_leaves_no_connection_open(serve: Serve):
    server = serve(reply())
    session = session_for(server)
    session.fetch("GET", "/", parse=content)
    assert server.open_now == 1
    session.close()
    until(lambda: server.open_now == 0, "the connection is still open")
    assert session is not None  # it was not the garbage collector


def test_an_error_says_how_the_answer_begins(serve: Serve):
    server = serve(reply(b'{"message":\n "404 Job Not Found"}', 404))
    with session_for(server) as session, pytest.raises(Refused) as raised:
        session.fetch("GET", "/", parse=content)
    assert raised.value.said == '{"message": "404 Job Not Found"}'


def test_an_encoding_that_was_not_asked_for_is_a_bad_answer(serve: Serve):
    server = serve(reply(Content_Encoding="br"))
    with session_for(server, attempts=1) as session, pytest.raises(BadAnswer, match="'br', which was not asked for"):
        session.fetch("GET", "/", parse=content)


def trickle(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not connection.gone.wait(0.01):
        connection.send(b"x")


def test_a_body_that_trickles_in_is_given_up_after_the_total_time(serve: Serve):
    server = serve(trickle)
    began = time.monotonic()
    with (
        session_for(server, attempts=1, total_timeout=0.2) as session,
        pytest.raises(TimedOut, match=r"only \d+ bytes of the body had come after 0.2 s"),
    ):
        session.fetch("GET", "/", parse=content)
    assert time.monotonic() - began < 30


def test_a_body_that_stops_coming_times_out(serve: Serve):
    def half(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        connection.stall()

    server = serve(half)
    with (
        session_for(server, attempts=1, read_timeout=1.0) as session,
        pytest.raises(TimedOut, match=r"the body stopped coming for 1 s"),
    ):
        session.fetch("GET", "/", parse=content)


def test_time_outs_lower_the_number_of_requests_in_flight(serve: Serve):
    server = serve(Connection.stall)
    with session_for(server, attempts=1, read_timeout=0.15, workers=8) as session, pytest.raises(TimedOut):
        session.fetch("GET", "/", parse=content)
    assert session.pacer.limit == 4


# Nobody there


def test_a_refused_connection_names_the_host_and_what_to_check():
    with nobody() as address, ApiSession(address, attempts=2, backoff=0.01) as session:
        with pytest.raises(Unreachable) as raised:
            session.fetch("GET", "/a", parse=content)
        assert session.stats.retries == 1
    assert str(raised.value) == (
        f"GET {address}/a failed after 2 attempts: {address.removeprefix('http://')} refused the connection. "
        f"Check the address, and that the server is up and can be reached from here."
    )


def test_an_unknown_host_names_it():
    with (
        ApiSession("http://no-such-host.invalid", attempts=1) as session,
        pytest.raises(Unreachable, match=r"host name of no-such-host.invalid cannot be resolved"),
    ):
        session.fetch("GET", "/", parse=content)


@contextmanager
def serving_tls(directory: Path) -> Iterator[tuple[int, Path]]:
    """A server on loopback whose certificate nobody has signed but itself: its port, and the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = directory / "certificate.pem", directory / "key.pem"
    public.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # the same connection once more, since TLS takes that one over
            accepted.append(connection.dup())
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                while secured.recv(65536):
                    secured.sendall(reply(b"in private"))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], public
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in accepted:
            # a client may keep it open
            with connection, suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_a_certificate_that_is_not_trusted_is_told_at_once_and_one_that_is_named_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with serving_tls(tmp_path) as (port, certificate):
        with (
            ApiSession(f"https://127.0.0.1:{port}", attempts=3) as session,
            pytest.raises(Unreachable, match=r"certificate of 127.0.0.1:\d+ is not trusted .*REQUESTS_CA_BUNDLE"),
        ):
            session.fetch("GET", "/", parse=content)
        assert session.stats.requests == 1, "it would be the same next time"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with ApiSession(f"https://127.0.0.1:{port}", attempts=1) as session:
            assert [session.fetch("GET", "/", parse=content) for _ in range(2)] == [b"in private"] * 2


def test_certificates_that_are_not_there_are_a_failure_that_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with (
        ApiSession("https://127.0.0.1:1", attempts=3) as session,
        pytest.raises(
            Unreachable, match=r"none\.pem', which REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names, are not there"
        ),
    ):
        session.fetch("GET", "/", parse=content)
    assert session.stats.requests == 1


def test_https_to_a_server_without_it_says_so():
    def answer_in_the_clear(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            # Until the client has read it and gone: a close with something left unread would be a reset
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=answer_in_the_clear, args=(listener,))
        thread.start()
        with (
            ApiSession(f"https://127.0.0.1:{listener.getsockname()[1]}", attempts=1) as session,
            pytest.raises(Unreachable, match=r"secure connection to 127.0.0.1:\d+ could not be made"),
        ):
            session.fetch("GET", "/", parse=content)
        thread.join(SECONDS)


def failure(*chain: BaseException) -> BaseException:
    """An error that hides its cause as urllib3 does: in an attribute, or among its arguments."""
    error = chain[-1]
    for outer in reversed(chain[:-1]):
        outer.args = (error,)
        error = outer
    return error


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"certificate verify failed {TOKEN}")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "answering", "expected", "sentence", "retryable"),
    [
        (
            failure(requests.exceptions.SSLError(), untrusted()),
            False,
            Unreachable,
            (
                "the certificate of h:1 is not trusted (self-signed certificate). "
                "Check the address, or name the authority's certificates in REQUESTS_CA_BUNDLE."
            ),
            False,
        ),
        (requests.ConnectTimeout(TOKEN), False, Unreachable, "h:1 did not take the connection within 10 s.", True),
        (requests.exceptions.ProxyError(TOKEN), False, Unreachable, "the proxy on the way to h:1 failed.", True),
        (
            failure(requests.ConnectionError(), OSError(errno.EHOSTUNREACH, TOKEN)),
            False,
            Unreachable,
            "the connection to h:1 failed (No route to host).",
            True,
        ),
        (requests.ConnectionError(TOKEN), False, Unreachable, "the connection to h:1 failed (no reason given).", True),
        (
            failure(ConnectTimeoutError(TOKEN), TimeoutError(TOKEN)),
            False,
            Unreachable,
            "h:1 did not take the connection within 10 s.",
            True,
        ),
        (
            failure(NewConnectionError(Any, TOKEN), OSError(errno.EHOSTUNREACH, TOKEN)),
            False,
            Unreachable,
            "the connection to h:1 failed (No route to host).",
            True,
        ),
        (ProxyError(TOKEN, OSError()), False, Unreachable, "the proxy on the way to h:1 failed.", True),
        (requests.ReadTimeout(TOKEN), False, TimedOut, "there was no answer for 60 s.", True),
        (ConnectionResetError(TOKEN), True, BadAnswer, "the body was cut short.", True),
    ],
)
def test_what_is_made_of_a_failed_connection(error, answering, expected, sentence, retryable):
    trouble = trouble_of(error, host="h:1", answering=answering, connect_timeout=10.0, read_timeout=60.0)
    assert (type(trouble), trouble.retryable) == (expected, retryable)
    assert str(trouble).startswith(sentence)
    assert TOKEN not in str(trouble)


# Redirects


def redirect(to: str, status: int = 302) -> bytes:
    return reply(b"moved", status, Location=to)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reading_follows_redirects_on_the_same_host_with_the_token(serve: Serve, method, status):
    def respond(request: Request) -> bytes:
        if request.target == "/b?c=d":
            return b"HTTP/1.1 200 OK\r\nX-Here: yes\r\nContent-Length: 0\r\n\r\n"
        return b"HTTP/1.1 %d Moved\r\nLocation: /b?c=d\r\nContent-Length: 0\r\n\r\n" % status

    server = serve(respond=respond)
    with session_for(server) as session:
        assert session.fetch(method, "/a", params={"p": 1}, parse=lambda answer: answer.headers["X-Here"]) == "yes"
    assert [request.target for request in server.requests] == ["/a?p=1", "/b?c=d"]
    assert [request.method for request in server.requests] == [method, method]
    assert server.requests[1].headers["private-token"] == TOKEN


def test_no_credentials_follow_a_redirect_to_another_port_nor_come_back_from_there(serve: Serve):
    home = serve(respond=lambda request: redirect(f"{away.url}/b") if request.target == "/a" else reply(b"home"))
    away = serve(respond=lambda request: redirect(f"{home.url}/c"))
    per_call = {"Authorization": "Bearer x", "Cookie": "a=b", "JOB-TOKEN": "j", "X-Plain": "kept"}
    with session_for(home) as session:
        assert session.fetch("GET", "/a", headers=per_call, parse=content) == b"home"
    first, last = home.requests
    secret = {"private-token", "authorization", "cookie", "job-token"}
    assert secret <= set(first.headers)
    assert not secret & set(away.requests[0].headers)
    assert not secret & set(last.headers)
    assert away.requests[0].headers["x-plain"] == "kept"


def test_a_user_and_password_in_a_redirect_are_not_used(serve: Serve):
    away = serve(reply(b"away"))
    home = serve(redirect(f"http://user:pass@127.0.0.1:{away.port}/b"))
    with session_for(home) as session:
        assert session.fetch("GET", "/a", parse=content) == b"away"
    assert "authorization" not in away.requests[0].headers


def test_unauthorized_after_a_redirect_says_that_the_token_stayed_behind(serve: Serve):
    away = serve(reply(b"who?", 401))
    home = serve(redirect(f"{away.url}/b?signature=abc"))
    with session_for(home) as session, pytest.raises(Unauthorized) as raised:
        session.fetch("GET", "/a", parse=content)
    assert f"The credentials were not sent to {away.url}/b, to which it was redirected." in str(raised.value)


def test_redirects_that_go_round_are_refused(serve: Serve):
    server = serve(redirect("/a"))
    with session_for(server) as session, pytest.raises(Refused, match="redirected more than 5 times"):
        session.fetch("GET", "/a", parse=content)
    assert len(server.requests) == 6


@pytest.mark.parametrize("status", [307, 308])
def test_a_post_is_sent_again_to_where_the_same_host_says(serve: Serve, status):
    server = serve(redirect("/b", status), reply(b"there"))
    with session_for(server) as session:
        assert session.fetch("POST", "/a", json=[1], parse=content) == b"there"
    second = server.requests[1]
    assert (second.method, second.target, json.loads(second.body)) == ("POST", "/b", [1])
    assert second.headers["private-token"] == TOKEN


@pytest.mark.parametrize(("status", "same_host"), [(301, True), (302, True), (303, True), (307, False), (308, False)])
def test_any_other_redirect_of_a_post_is_refused_with_where_it_points_and_what_to_set(serve: Serve, status, same_host):
    other = serve(reply())
    server = serve(respond=lambda request: redirect(f"{server.url if same_host else other.url}/b", status))
    target = server if same_host else other
    with session_for(server) as session, pytest.raises(Refused) as raised:
        session.fetch("POST", "/a", json=[1], parse=content)
    assert f"it was redirected to {target.url}/b" in str(raised.value)
    assert f"set its address to {target.url} instead of {server.url}." in str(raised.value)
    assert raised.value.status == status
    assert other.requests == []


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/a", "http://:80/", "http://[::1/a", "javascript:alert(1)"])
def test_a_redirect_to_no_http_address_is_refused(serve: Serve, location):
    server = serve(redirect(location))
    with session_for(server) as session, pytest.raises(Refused):
        session.fetch("GET", "/a", parse=content)
    assert len(server.requests) == 1


def test_a_redirect_without_a_target_is_refused(serve: Serve):
    server = serve(reply(status=302))
    with session_for(server) as session, pytest.raises(Refused, match="302 without saying where to"):
        session.fetch("GET", "/a", parse=content)


# Stopping


def fetch_and_stop(session: ApiSession, stop: Stop, ready: Callable[[], bool]) -> float:
    """Fetch in a thread, stop it once it is ready, and return the seconds that it took to end by `Stopped`."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            session.fetch("GET", "/", parse=content)
        except Stopped as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(ready)
    began = time.monotonic()
    stop.set("Ctrl-C")
    thread.join(SECONDS)
    assert [str(error) for error in raised] == ["Ctrl-C"]
    return time.monotonic() - began


def test_a_stop_ends_a_backoff(serve: Serve):
    server, stop = serve(reply(status=503)), Stop()
    with session_for(server, stop=stop, backoff=600, max_backoff=600) as session:
        assert fetch_and_stop(session, stop, lambda: session.pacer.limit < 10) < 30


def test_a_stop_ends_a_pause_that_the_server_asked_for(serve: Serve):
    server, stop = serve(reply(status=429, Retry_After="600")), Stop()
    with session_for(server, stop=stop) as session:
        assert fetch_and_stop(session, stop, lambda: session.pacer.pauses == 1) < 30


def test_a_stop_ends_a_body_that_trickles_in(serve: Serve):
    server, stop = serve(trickle), Stop()
    with session_for(server, stop=stop) as session:
        assert fetch_and_stop(session, stop, lambda: len(server.requests) == 1) < 30


def test_a_body_that_is_on_its_way_at_a_stop_may_arrive(serve: Serve):
    stop = Stop()

    def in_two_parts(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        stop.set("Ctrl-C")
        connection.send(b"cd")

    server = serve(in_two_parts)
    with session_for(server, stop=stop) as session:
        assert session.fetch("GET", "/", parse=content) == b"abcd"
        with pytest.raises(Stopped):
            session.fetch("GET", "/", parse=content)
    assert len(server.requests) == 1


def test_the_place_is_given_back_during_a_backoff(serve: Serve):
    server = serve(respond=lambda request: reply(status=500 if request.target == "/bad" else 200))
    stop, pacer = Stop(), Pacer(concurrency=1)
    with session_for(server, stop=stop, pacer=pacer, backoff=600, max_backoff=600) as session:
        ended = []

        def work() -> None:
            with pytest.raises(Stopped):
                session.fetch("GET", "/bad", parse=content)
            ended.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        until(lambda: len(server.requests) == 1)
        assert session.fetch("GET", "/good", parse=content) == b"ok"
        stop.set()
        thread.join(SECONDS)
    assert ended == [True]


# Secrets


def test_a_user_and_password_in_the_base_address_are_sent_and_not_shown(serve: Serve):
    server = serve(reply(b"no", 403))
    base_url = f"http://alice:s3cr%2Ft@127.0.0.1:{server.port}/prefix"
    with ApiSession(base_url) as session, pytest.raises(Refused) as raised:
        session.fetch("GET", "/a", parse=content)
    sent = server.requests[0].headers["authorization"]
    assert sent == "Basic " + base64.b64encode(b"alice:s3cr/t").decode()
    assert f"http://127.0.0.1:{server.port}/prefix/a" in str(raised.value)
    assert repr(session) == f"ApiSession('http://127.0.0.1:{server.port}/prefix', workers=10)"
    for form in ("alice:s3cr%2Ft", "s3cr/t", "s3cr%2Ft", sent):
        assert session.redact(f"<{form}>") == "<***>"


def test_a_credential_among_the_plain_headers_is_kept_like_a_secret_one(serve: Serve):
    server, other = serve(reply()), serve(reply())
    with ApiSession(server.url, headers={"Authorization": f"Bearer {TOKEN}", "X-App": "a"}) as session:
        session.fetch("GET", "/", parse=content)
        session.fetch("GET", other.url, parse=content)
        assert TOKEN not in session.redact(f"it is {TOKEN}")
    assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert (other.requests[0].headers["x-app"], "authorization" in other.requests[0].headers) == ("a", False)


@pytest.mark.parametrize(
    ("secret", "form"),
    [
        (f"Bearer {TOKEN}", f"Bearer {TOKEN}"),
        (f"Bearer {TOKEN}", TOKEN),
        (TOKEN, "glpat-S3cr3t%2FT0ken%2Bx"),
        (TOKEN, "glpat-S3cr3t%2fT0ken%2bx"),
        (TOKEN, "glpat-S3cr3t/T0ken%2Bx"),
        (TOKEN, base64.b64encode(TOKEN.encode()).decode()),
        (TOKEN, base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")),
        ('a"b', 'a\\"b'),
        ("Basic " + base64.b64encode(b"alice:s3cr3t").decode(), "alice:s3cr3t"),
        ("Basic " + base64.b64encode(b"alice:s3cr3t").decode(), "s3cr3t"),
        ("Basic no base64!", "base64!"),
    ],
)
def test_a_secret_is_found_in_every_form(secret, form):
    assert Redactor([secret])(f"before {form}, after").replace("=", "") == "before ***, after"


def test_nothing_is_redacted_without_secrets():
    assert Redactor(["", " "])("a text") == "a text"
    assert repr(Redactor([TOKEN])) == "Redactor()"


def test_the_filter_takes_secrets_out_of_messages_and_tracebacks():
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, logger = Keep(), logging.getLogger("test.redaction")
    handler.addFilter(RedactingFilter([f"Bearer {TOKEN}"]))
    logger.addHandler(handler)
    try:
        logger.warning("with %s and %d%%", TOKEN, 5)
        try:
            int(TOKEN)
        except ValueError:
            logger.exception("failed")
        logger.warning("here", stack_info=True)
    finally:
        logger.removeHandler(handler)
    assert lines[0] == "with *** and 5%"
    assert "ValueError: invalid literal for int() with base 10: '***'" in lines[1]
    assert TOKEN not in "".join(lines)


def test_urllib3_logs_no_secret(serve: Serve, caplog):
    caplog.set_level(logging.DEBUG)
    server = serve(reply())
    log = logging.getLogger("urllib3.connectionpool")
    others = list(log.filters)
    with session_for(server) as session:
        session.fetch("GET", "/a", params={"private_token": TOKEN}, parse=content)
        assert len(log.filters) == len(others) + 1
    assert "private_token=***" in caplog.text
    assert "S3cr3t" not in caplog.text
    assert log.filters == others


def test_the_start_of_a_text_is_one_redacted_line():
    answer = Answer(
        200, {}, b"  a\n\tb secret " + b"x" * 500, "http://h", 0.1, lambda text: text.replace("secret", "***")
    )
    assert answer.text_start(12) == "a b *** xxxx"
    assert answer.content_type == ""
    at_the_border = Answer(200, {}, b"12345678secret", "http://h", 0.1, lambda text: text.replace("secret", "***"))
    assert at_the_border.text_start(10) == "12345678**"


# What cannot be a session


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "sonar",
        "ftp://h",
        "http://",
        "https:///path",
        "http://h:port",
        "http://h:99999",
        "http://h/?a=b",
        "http://h#x",
    ],
)
def test_a_base_address_that_is_none_is_refused_with_what_it_has_to_be_like(base_url):
    with pytest.raises(ValueError, match=r"is not the address of an API\. It has to be like https://example\.com"):
        ApiSession(base_url)


def test_a_base_address_that_is_refused_does_not_show_its_password():
    base_url = "ftp://alice:" + "s3cr3t" + "@h"  # in pieces, for a traceback quotes the line
    with pytest.raises(ValueError, match=r"ftp://\*\*\*@h") as raised:
        ApiSession(base_url)
    assert "alice:s3cr3t" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("value", ["token\n", " token", "tok\r\nen", "tøken"])
def test_a_token_that_cannot_be_sent_is_refused_without_showing_it(value):
    with pytest.raises(ValueError, match="The value of the header PRIVATE-TOKEN holds") as raised:
        ApiSession("http://h", secret_headers={"PRIVATE-TOKEN": value})
    assert value not in str(raised.value)


# What decides


@pytest.mark.parametrize(
    ("trouble", "earlier", "least", "most"),
    [
        (Unreachable("reset"), 0, 0, 0),
        (TimedOut("slow"), 0, 0, 0),
        (BadAnswer("503"), 0, 0.5, 1),
        (Throttled("429"), 0, 0.5, 1),
        (Throttled("429", retry_after=0), 0, 0, 0),
        (Throttled("429", retry_after=60), 0, 0, 0),  # the pacer keeps that one
        (Unreachable("reset"), 1, 2, 3),
        (BadAnswer("503"), 2, 4, 5),
        (Throttled("429", retry_after=0), 1, 2, 3),
        (BadAnswer("503"), 5, 8, 8),
    ],
)
def test_the_wait_before_the_next_attempt(trouble, earlier, least, most):
    policy = Retry(total=10, backoff_factor=1, backoff_jitter=1, backoff_max=8, allowed_methods=None)
    for _ in range(earlier + 1):
        policy = spent(policy, "GET", "http://h", trouble)
    assert least <= wait_before_retry(policy, trouble) <= most


@pytest.mark.parametrize(
    ("total", "read", "troubles", "further"),
    [
        (3, 3, "bbb", True),
        (3, 3, "bbbb", False),
        (3, 3, "tttt", False),
        (3, 0, "t", False),
        (3, 0, "bbb", True),
        (3, 1, "tb", True),
        (3, 1, "tbt", False),
        (0, 0, "b", False),
    ],
)
def test_the_budget_of_attempts_and_that_of_time_outs(total, read, troubles, further):
    policy: Retry | None = Retry(total=total, read=read, allowed_methods=None)
    for kind in troubles:
        assert policy is not None
        policy = spent(policy, "POST", "http://h", TimedOut("slow") if kind == "t" else BadAnswer("503"))
    assert (policy is not None) is further
