"""Encoder: an ended Call -> facts -> Event -> bytes. What Pipeline hands to the uploaders as their `encode`.

Runs on worker threads. One Encoder lives as long as one set of settings.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson

from honeyhive_autoinstrument._faults import faults, guarded
from honeyhive_autoinstrument.activation.neighbours import double_recorders
from honeyhive_autoinstrument.activation.sampling import is_kept
from honeyhive_autoinstrument.activation.secrets import credentials_in, credentials_in_environment, credentials_in_url
from honeyhive_autoinstrument.activation.sessions import Sessions
from honeyhive_autoinstrument.activation.user_functions import Enrich, Mask, UserFunction
from honeyhive_autoinstrument.capture.additions import Update
from honeyhive_autoinstrument.capture.call import Call
from honeyhive_autoinstrument.config import Config
from honeyhive_autoinstrument.delivery.sink import Record
from honeyhive_autoinstrument.events.build import bare_event, beside_ours, build_event, session_row
from honeyhive_autoinstrument.events.encode import encode, tolerable
from honeyhive_autoinstrument.events.facts import CallFacts, Session
from honeyhive_autoinstrument.events.ids import uuid_of
from honeyhive_autoinstrument.events.schema import Event, SessionRow
from honeyhive_autoinstrument.events.values import metadata_in, plain_of
from honeyhive_autoinstrument.patches.library import (
    credentials_of_library,
    library_version,
    price_of_tokens,
    provider_of,
    router_settings_of,
)
from honeyhive_autoinstrument.patience import take_lock
from honeyhive_autoinstrument.patterns import rules_of
from honeyhive_autoinstrument.redaction import Redactor

FORK_WAIT_S = 1.0
PRICE_WAIT_S = 2.0
"""How long the first price of another thread is waited for; an event without its price is better than none."""

MAX_SAMPLED_OUT = 10_000
"""Ids of events that were sampled out; what is added to them later goes nowhere."""

LOOK_AROUND_AT = frozenset({1, 10, 100})

CONTENT_KEY = "honeyhive_capture_content"
"""In a call's metadata: whether its texts are recorded."""


class Encoder:
    """Makes Records of Calls and Updates, by the settings it was given."""

    def __init__(self, config: Config, process_session: Session, submit: Callable[[Update], object]) -> None:
        """
        :param submit: for an Update that a Call leads to.
        """
        self._config = config
        self._submit = submit
        self._attributes = dict(config.attributes)
        self._redactor = Redactor(
            max_content_bytes=config.max_content_bytes,
            secrets=(*credentials_in_environment(), config.api_key or ""),
            rules=rules_of(config.redact),
        )
        self.sessions = Sessions(config, process_session, self._encode_session)
        self._mask = _function_of(config.mask, "mask", config, self._redactor, Mask)
        self._enrich = _function_of(config.enrich, "enrich", config, self._redactor, Enrich)
        self._unlearned: deque[Call] = deque()
        self._learning = threading.RLock()
        self._sampled_out: OrderedDict[str, None] = OrderedDict()
        self._calls = 0
        self._litellm_version: str | None = None
        with guarded("read LiteLLM's version"):
            self._litellm_version = library_version()  # here, not on a worker: importlib.metadata imports as it reads
        self._first_price = threading.RLock()  # re-entrant: a finalizer may end a Call in the middle of it
        self._has_priced = False
        self._is_held = False

    def __call__(self, item: Call | Update) -> Record | None:
        """The Record; None for what is sampled out.

        :raises Exception: when nothing at all can be made of it; parts that cannot be read are left out.
        """
        return self._record_of_update(item) if isinstance(item, Update) else self._record_of(item)

    def note(self, item: Call | Update) -> None:
        """It has ended, and is queued. Who makes a Record of what ends after this knows its credentials: the error of a
        chain repeats those of an attempt, which another worker may just have taken."""
        if isinstance(item, Call) and item.parent is not None:
            self._unlearned.append(item)

    def start(self) -> None:
        """Start the threads of the user's functions, while threads can be started."""
        for each in self._user_functions():
            each.start()

    def close(self) -> None:
        """They end when they are done."""
        for each in self._user_functions():
            each.close()

    def counts_of_functions(self) -> dict[str, dict[str, int]]:
        """How often MASK and ENRICH failed or took too long."""
        named = (("mask", self._mask), ("enrich", self._enrich))
        nothing = {"failed": 0, "timed_out": 0}
        return {name: nothing if each is None else dict(each.function.counts) for name, each in named}

    def before_fork(self) -> None:
        """LiteLLM's first price imports many of its modules; a child forked in the middle of that would hang on them."""
        self._is_held = take_lock(self._first_price.acquire, FORK_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """Pricing goes on."""
        if self._is_held:
            self._first_price.release()

    def after_fork_in_child(self) -> None:
        """The locks were taken in the parent, the threads are its."""
        self._first_price = threading.RLock()
        self._learning = threading.RLock()
        self._redactor.after_fork()
        for each in self._user_functions():
            each.after_fork()

    def _record_of(self, call: Call) -> Record | None:
        with guarded("learn a call's credentials"):
            self._learn(call)
        with self._learning:
            while self._unlearned:
                with guarded("learn a call's credentials"):
                    self._learn(self._unlearned.popleft())
        with guarded("look for other instrumentations"):
            self._look_around()
        place = self.sessions.place_of(call)
        session = place.session
        if not is_kept(call, session.id, self._config):
            self._note_sampled_out(uuid_of(call.number))
            return None
        session_body = self.sessions.row_of(session)
        facts = call.facts(place, provider_of, router_settings_of, self._litellm_version, self._attributes)
        event = self._event_of(facts, self._captures_content(call))
        with guarded("tell what was added to a session"):
            added = self.sessions.news_of(call, session)
            if added:
                self._submit(Update(event_id=session.id, buckets=added, made_s=time.time()))
        return Record(
            id=event.event_id,
            body=encode(event, max_bytes=self._config.max_event_bytes),
            session_id=session.id,
            session_body=session_body,
        )

    def _look_around(self) -> None:
        """Others may be switched on after the first call: looked for with the first, the tenth, the hundredth."""
        self._calls += 1
        if self._calls not in LOOK_AROUND_AT:
            return
        twice = double_recorders(self._config.api_url, os.environ)
        if twice:
            faults.say(
                "recorded twice",
                "HoneyHive: %s records LiteLLM in this process, too, and its spans go to HoneyHive: each call shows twice."
                " Switch one of them off.",
                " and ".join(twice),
            )

    def _event_of(self, facts: CallFacts, captures_content: bool) -> Event:
        event: Event | None = None
        with guarded("build an event"):
            event = build_event(
                facts,
                source=self._config.source,
                redactor=self._redactor,
                capture_content=captures_content,
                capture_headers=self._config.capture_headers,
                price=self._price,
            )
        if event is None:
            return bare_event(facts, source=self._config.source)
        if self._enrich is not None:
            with guarded("enrich an event"):
                event = self._enrich.apply(event)
        if self._mask is not None:
            masked: Event | None = None
            with guarded("mask an event"):
                masked = self._mask.apply(event)
            event = masked or bare_event(facts, source=self._config.source)
        return event

    def _record_of_update(self, update: Update) -> Record | None:
        if update.event_id in self._sampled_out:
            return None
        buckets = {name: self._redactor.value(plain_of(values)) for name, values in update.buckets.items()}
        if "metadata" in buckets:
            buckets["metadata"] = beside_ours(buckets["metadata"], {})
        if self._mask is not None:
            buckets = self._mask.masked(buckets)
        return Record(
            id=str(uuid4()),
            body=orjson.dumps(tolerable({"event_id": update.event_id, **buckets})),
            session_id="",
            session_body=b"",
            updates=update.event_id,
            made_s=update.made_s,
        )

    def _learn(self, call: Call) -> None:
        around: Call | None = call
        while around is not None:  # the keys of a chain's further models reach its first try's errors
            self._redactor.learn(credentials_in(around.secrets))
            for bucket in metadata_in(around.arguments):
                self._redactor.learn(credentials_in(bucket.items()))
            if around.api_base is not None:
                self._redactor.learn(credentials_in_url(around.api_base))
            around = around.parent
        if call.error is not None:
            # Providers repeat keys in their answers, and a key need not have come with the call.
            self._redactor.learn(credentials_in(credentials_of_library()))
            self._redactor.learn(credentials_in_environment())  # it may have been changed since

    def _captures_content(self, call: Call) -> bool:
        """By the nearest Call that says so itself, else by LiteLLM's switches, else by the setting."""
        if not self._config.is_redact_usable:
            return False
        is_unlogged = False
        with guarded("look whether a call's texts may be recorded"):
            around: Call | None = call
            while around is not None:
                said = _said_of_content(around)
                if said is not None:
                    return said
                is_unlogged = is_unlogged or around.is_unlogged
                around = around.parent
            return self._config.capture_content and not is_unlogged
        return False

    def _note_sampled_out(self, event_id: str) -> None:
        self._sampled_out[event_id] = None
        while len(self._sampled_out) > MAX_SAMPLED_OUT:
            self._sampled_out.popitem(last=False)

    def _user_functions(self) -> list[UserFunction]:
        return [each.function for each in (self._mask, self._enrich) if each is not None]

    def _encode_session(self, session: Session) -> bytes:
        row = session_row(session, source=self._config.source, attributes=self._attributes, redactor=self._redactor)
        if self._mask is not None:
            masked: SessionRow | None = None
            with guarded("mask a session"):
                masked = self._mask.apply(row)
            row = masked or replace(row, session_name="session", metadata={}, user_properties={})
        return encode(row, max_bytes=self._config.max_event_bytes)

    def _price(
        self, models: Sequence[str], provider: str | None, usage: Any, tokens: Mapping[str, int]
    ) -> tuple[float, float] | None:
        """LiteLLM's price of what its answer carries none for: streams, and answers in a provider's own form."""
        if self._has_priced:
            return price_of_tokens(models, provider, usage, tokens)
        if take_lock(self._first_price.acquire, PRICE_WAIT_S):
            try:
                prices = price_of_tokens(models, provider, usage, tokens)
                self._has_priced = prices is not None
                return prices
            finally:
                self._first_price.release()
        return None


def _said_of_content(call: Call) -> bool | None:
    for bucket in metadata_in(call.arguments):
        said = bucket.get(CONTENT_KEY)
        if said is not None:
            # Through the Proxy it may come as text. What cannot be understood protects.
            return said is True or str(said).strip().lower() in ("true", "1", "yes", "on")
    return None


def _function_of(given: Any, setting: str, config: Config, redactor: Redactor, kind: Any) -> Any:
    return None if given is None else kind(UserFunction(given, setting, config.hook_timeout), redactor)
