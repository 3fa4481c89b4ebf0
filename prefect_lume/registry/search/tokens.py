"""Page tokens: where a page ended, as text that goes into a URL."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from prefect_lume.errors import InvalidInputError
from prefect_lume.registry.search.fields import Kind
from prefect_lume.registry.search.order import LONGEST, Key, Order

_MOST_CHARACTERS: Final = 65_536
_CHECK: Final = 8
_LONGEST_KEY: Final = max(LONGEST, 255)
_SIGNS: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Place:
    """Where a page ended.

    Attributes:
        now: When the first page was asked for, which stays ``now`` for all of them.
        values: What the last row has in the columns of the order.
    """

    now: datetime
    values: tuple[Any, ...]


def write(target: str, where: str, order: Order, place: Place) -> str:
    """Return the token for the page after a place."""
    values = [v.isoformat() if isinstance(v, datetime) else v for v in place.values]
    content = [_question(target, where, order), place.now.isoformat(), values]
    payload = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    check = hashlib.sha256(payload).digest()[:_CHECK]
    return base64.urlsafe_b64encode(check + payload).decode().rstrip("=")


def read(target: str, where: str, order: Order, token: object) -> Place:
    """Return the place that a token of this very search holds.

    Raises:
        InvalidInputError: It is damaged, or of another filter or order.
    """
    if not isinstance(token, str):
        kind = type(token).__name__
        raise InvalidInputError(f"page_token must be text or None, not {kind}.")
    damaged = InvalidInputError(
        "The page token is damaged. Give next_page_token of the page before as it is, "
        "or none for the first page."
    )
    if len(token) > _MOST_CHARACTERS or not _SIGNS.match(token):
        raise damaged
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        payload = raw[_CHECK:]
        content = json.loads(payload)
    except (binascii.Error, ValueError, RecursionError):
        raise damaged from None
    if hashlib.sha256(payload).digest()[:_CHECK] != raw[:_CHECK]:
        raise damaged
    if not isinstance(content, list) or len(content) != 3:
        raise damaged
    question, now, values = content
    if question != _question(target, where, order):
        raise InvalidInputError(
            "The page token is of another search. All pages of a search need the same "
            "filter and order; begin again without a token."
        )
    try:
        if len(values) != len(order.keys):
            raise damaged
        read_values = map(_value, order.keys, values)
        return Place(_moment(now), tuple(read_values))
    except (TypeError, ValueError, OverflowError):
        # A token that someone else made: no database is asked with it.
        raise damaged from None


def _question(target: str, where: str, order: Order) -> str:
    text = json.dumps([target, where, order.text])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _value(key: Key, value: Any) -> Any:
    if value is None:
        if not key.nullable:
            raise ValueError(key.name)
        return None
    if key.kind is Kind.DATE:
        return _moment(value)
    if key.kind in {Kind.NUMBER, Kind.FLAG}:
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**31:
            raise ValueError(key.name)
        return value
    if not isinstance(value, str) or len(value) > _LONGEST_KEY:
        raise ValueError(key.name)
    if _UNSTORABLE.search(value):
        raise ValueError(key.name)
    return value
