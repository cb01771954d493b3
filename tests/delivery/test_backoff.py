"""How long to wait: pure, so a table."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from honeyhive_autoinstrument.delivery.backoff import delay_s, retry_after_s

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("tries", "asked", "unit", "expected"),
    [
        (1, None, 1.0, 0.5),
        (2, None, 1.0, 1.0),
        (4, None, 0.5, 2.0),
        (50, None, 1.0, 30.0),
        (1, 7.0, 0.0, 7.0),
        (9, 7.0, 1.0, 30.0),
        (1, 9999.0, 0.0, 300.0),
    ],
)
def test_the_delay_doubles_to_a_cap_and_honours_what_the_server_asked(
    tries: int, asked: float | None, unit: float, expected: float
) -> None:
    assert delay_s(tries, asked, lambda: unit) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("5", 5.0),
        (" 2.5 ", 2.5),
        ("-3", 0.0),
        ("nan", None),
        ("1e99", 300.0),
        ("soon", None),
        (formatdate(NOW + 60, usegmt=True), 60.0),
        (formatdate(NOW - 60, usegmt=True), 0.0),
        ("Wed, 99 Foo 9999", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, expected: float | None) -> None:
    assert retry_after_s(header, NOW) == expected
