"""Alerts: what is news, how it is worded, and what arrives at a webhook and in a mailbox."""

import base64
import json
import logging
from collections.abc import Callable

import pytest

from bdc_pipeline import settings
from bdc_pipeline.operations.alerts import AlertError, Mail, News, Problem, Webhook, channels, news_for, tell, worded
from bdc_pipeline.settings import MailSettings, SettingsError
from bdc_pipeline_tests.fetching.loopback import Server
from bdc_pipeline_tests.operations.mailbox import Mailbox

Receiver = Callable[..., Server]

A, A2, B = Problem("a is stale", "1"), Problem("a is staler", "2"), Problem("b failed", "1")


def texts(server: Server) -> list[str]:
    """What a receiver was posted."""
    return [json.loads(request.body)["text"] for request in server.requests]


def mail_of(box: Mailbox, **options: object) -> Mail:
    given = {"security": "none", "sender": "bdc@example.com", "recipients": ("a@example.com", "b@example.com")}
    return Mail(MailSettings(host="127.0.0.1", port=box.port, **{**given, **options}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "told", "unknown", "begun", "over", "after"),
    [
        ({}, {}, (), [], [], {}),
        ({"a": A}, {}, (), ["a"], [], {"a": "1"}),
        ({"a": A}, {"a": "1"}, (), [], [], {"a": "1"}),
        ({"a": A2}, {"a": "1"}, (), ["a"], [], {"a": "2"}),
        ({}, {"a": "1"}, (), [], ["a"], {}),
        ({"b": B}, {"a": "1"}, (), ["b"], ["a"], {"b": "1"}),
        # of what cannot be judged now nothing is told, neither that it is bad nor that it is well
        ({}, {"a": "1"}, ("a",), [], [], {"a": "1"}),
        ({"a": A2}, {"a": "1"}, ("a",), [], [], {"a": "1"}),
        ({"a": A, "b": B}, {}, ("a",), ["b"], [], {"b": "1"}),
    ],
)
def test_a_problem_is_told_once_until_it_changes_and_once_when_it_is_over(
    found: dict[str, Problem],
    told: dict[str, str],
    unknown: tuple[str, ...],
    begun: list[str],
    over: list[str],
    after: dict[str, str],
) -> None:
    news = news_for(found, told, frozenset(unknown))
    assert (list(news.begun), list(news.over), news.told) == (begun, over, after)


def test_an_alert_names_each_problem_in_a_line_and_is_never_endless() -> None:
    news = News({f"t{n}": f"problem {n}\nof two lines" + "x" * 1000 * (n == 1) for n in range(30)}, ["u", "v"])
    lines = worded("trouble", news, "https://ui.example.com").splitlines()
    assert lines[0] == "bdc_pipeline: trouble"
    assert lines[1] == "- t0: problem 0 of two lines"
    assert len(lines[2]) == 400
    assert lines[-3:] == ["- and 10 more", "- well again: u, v", "https://ui.example.com"]


def test_the_webhook_gets_the_text_as_slack_takes_it(receiver: Receiver) -> None:
    server = receiver()
    Webhook(f"{server.url}/services/T0/secret").send("a <b> & c")
    assert texts(server) == ["a &lt;b&gt; &amp; c"]
    assert server.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [404, 500])
def test_a_webhook_that_refuses_is_told_without_its_address(receiver: Receiver, status: int) -> None:
    server = receiver(status)
    with pytest.raises(AlertError, match=f"answered {status}; check BDC_ALERT_WEBHOOK") as error:
        Webhook(f"{server.url}/services/T0/hush").send("x")
    assert "hush" not in str(error.value)


def test_a_webhook_that_nobody_serves_is_told_without_its_address(receiver: Receiver) -> None:
    server = receiver()
    server.close()
    with pytest.raises(AlertError, match="could not be reached") as error:
        Webhook(f"{server.url}/services/T0/hush").send("x")
    assert "hush" not in str(error.value)


def test_a_redirect_of_the_webhook_is_not_followed(receiver: Receiver) -> None:
    other = receiver()
    server = receiver(307, Location=other.url)
    with pytest.raises(AlertError, match="answered 307"):
        Webhook(server.url).send("x")
    assert other.requests == []


def test_mail_goes_to_all_recipients_with_a_subject(mailbox: Mailbox) -> None:
    mail_of(mailbox, user="me", password="pass word").send(
        "bdc_pipeline: trouble\n- sonar/customers: København\n- more"
    )
    [message] = mailbox.messages
    assert message["Subject"] == "bdc_pipeline: trouble sonar/customers: København"
    assert (message["From"], message["To"]) == ("bdc@example.com", "a@example.com, b@example.com")
    assert (
        message.get_content().replace("\r\n", "\n") == "bdc_pipeline: trouble\n- sonar/customers: København\n- more\n"
    )
    assert mailbox.recipients == [["a@example.com", "b@example.com"]]
    assert mailbox.logins == [b"\0me\0pass word"]


def test_a_mail_server_without_encryption_gets_no_password(mailbox: Mailbox) -> None:
    with pytest.raises(AlertError, match="SMTPNotSupportedError"):
        mail_of(mailbox, security="starttls", user="me", password="hush").send("x")
    assert (mailbox.logins, mailbox.messages) == ([], [])


def test_a_mail_server_that_refuses_is_told_without_the_password(mailbox: Mailbox) -> None:
    # it repeats what it was sent
    mailbox.accepts_login = False
    with pytest.raises(AlertError, match="SMTPAuthenticationError") as error:
        mail_of(mailbox, user="me", password="hush-hush-hush").send("x")
    assert "hush" not in str(error.value)
    assert base64.b64encode(b"\0me\0hush-hush-hush").decode() not in str(error.value)
    assert "no: PLAIN ***" in str(error.value)


def test_a_channel_that_cannot_be_reached_is_tried_again_and_the_other_is_not_told_twice(
    receiver: Receiver, mailbox: Mailbox
) -> None:
    server = receiver(500, 200)
    to = [Webhook(server.url), mail_of(mailbox)]
    told, sentences = tell("trouble", {"a": A}, {}, to)
    assert told == {"webhook": {}, "mail": {"a": "1"}}
    assert sentences[0].endswith("tried again at the next turn")
    told, _ = tell("trouble", {"a": A}, told, to)
    assert told == {"webhook": {"a": "1"}, "mail": {"a": "1"}}
    assert (len(server.requests), len(mailbox.messages)) == (2, 1)
    told, sentences = tell("trouble", {"a": A}, told, to)
    assert (len(server.requests), len(mailbox.messages), sentences) == (2, 1, [])


def test_a_secret_in_a_problem_does_not_leave(
    receiver: Receiver, unset: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unset.setenv("SONAR_TOKEN", "hush-hush-hush")
    caplog.set_level(logging.DEBUG)
    server = receiver()
    tell("trouble", {"a": Problem("refused: Bearer hush-hush-hush", "1")}, {}, [Webhook(f"{server.url}/hook")])
    assert texts(server) == ["bdc_pipeline: trouble\n- a: refused: Bearer ***"]
    assert "hush" not in caplog.text


def test_without_variables_there_are_no_channels(unset: pytest.MonkeyPatch) -> None:
    assert channels() == []
    assert not settings.alerts_are_configured()


def test_channels_are_those_that_the_variables_name(unset: pytest.MonkeyPatch) -> None:
    unset.setenv("BDC_ALERT_WEBHOOK", "https://hooks.example.com/services/hush")
    unset.setenv("BDC_ALERT_MAIL_TO", "a@example.com, b@example.com")
    unset.setenv("BDC_SMTP_HOST", "mail.example.com")
    unset.setenv("BDC_SMTP_PASSWORD", "hush")
    webhook, mail = channels()
    assert (webhook.name, mail.name) == ("webhook", "mail")
    assert "hush" not in repr((webhook, mail))


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"BDC_ALERT_WEBHOOK": "hush"}, "BDC_ALERT_WEBHOOK is no web address"),
        ({"BDC_ALERT_WEBHOOK": "https://[hush"}, "BDC_ALERT_WEBHOOK is no web address"),
        ({"BDC_ALERT_WEBHOOK": "http://example.com/hush"}, "would send alerts unencrypted"),
        ({"BDC_ALERT_MAIL_TO": "a@example.com"}, "BDC_SMTP_HOST is not set"),
        ({"BDC_ALERT_MAIL_TO": "somebody", "BDC_SMTP_HOST": "m.example.com"}, "'somebody' is no mail address"),
        (
            {"BDC_ALERT_MAIL_TO": "a@example.com", "BDC_SMTP_HOST": "m.example.com", "BDC_SMTP_SECURITY": "none"},
            "would send mail to m.example.com unencrypted",
        ),
        (
            {"BDC_ALERT_MAIL_TO": "a@example.com", "BDC_SMTP_HOST": "m.example.com", "BDC_SMTP_SECURITY": "ssl"},
            "one of starttls, tls, none",
        ),
        (
            {"BDC_ALERT_MAIL_TO": "a@example.com", "BDC_SMTP_HOST": "m.example.com", "BDC_SMTP_PORT": "x"},
            "BDC_SMTP_PORT is 'x'",
        ),
    ],
)
def test_a_channel_that_cannot_be_used_is_told_in_a_sentence_without_secrets(
    variables: dict[str, str], told: str, unset: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        unset.setenv(name, value)
    with pytest.raises(SettingsError, match=told) as error:
        channels()
    assert "hush" not in str(error.value)
