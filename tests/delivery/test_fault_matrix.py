"""What a server, or the way to it, can do to a batch: a table of faults, and one rule for all of them.

Twelve events go out in several batches while the fault lasts. Then each event is stored exactly once, or waits on disk, or
was refused and set aside: in one of these places and no other, unless the fault stores and does not say so. The ledger adds
up all the while, no event is sent more often than the row says, and an event has one id in every try. A fault that passes
leaves nothing on disk; after one that outlasts the program, the next run brings everything that waited.
"""

from __future__ import annotations

import dataclasses
import email.utils
import json
import logging
import math
import ssl
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import litellm
import pytest
import trustme

import honeyhive_autoinstrument
from honeyhive_autoinstrument.config import Config
from honeyhive_autoinstrument.delivery import courier, uploader
from honeyhive_autoinstrument.delivery.spool import Spool
from tests.conftest import BIN, Run, app, wait_until
from tests.fakes.honeyhive import FakeHoneyHive

LAUNCHER = BIN / "honeyhive-instrument"
BATCHES = "/v1/events/batch"
SESSIONS = "/v1/sessions"

TEXTS = tuple(f"event {number:02}" for number in range(12))
ODD = "event 07"
"""The one that a server has something against."""
LATER = "Say hello."
"""What the later run asks; the program under tests/apps asks the same."""

BATCH_MAX_EVENTS = 5
LINGER_S = 0.25
"""Longer than asking takes, so that batches are closed by their count; a flush does not wait for it."""
EXIT_TIMEOUT_S = 1.0
SHORT_S = 2.0
"""TIMEOUT where an answer does not come in time: each try waits for all of it."""
SHORTER_S = 0.3
"""The same where none does."""
NEXT_TIMEOUT_S = 5.0
"""TIMEOUT of the next run: nothing misbehaves any more."""
SETTLED_WITHIN_S = 15.0
"""Three tries of a batch take at most 3 x TIMEOUT and 2 s; beside them another worker's."""
BACK_WITHIN_S = 20.0
"""A parked Sink probes about every 10 s."""
SLACK_S = 1.0
"""A busy machine."""

ONE_EVENT_BYTES = 1500
"""One event of this file is smaller, two are larger."""
TWO_EVENTS_BYTES = 3000
HUGE_BYTES = 200_000
PROXY_LIMIT_BYTES = 64_000

TRIES = 3
"""In memory; then the batch is on disk."""
HALVINGS = 4
"""5 events, then 3 or 2, then 2 or 1, then 1."""
SHORTENINGS = 4
KEPT = 1
"""The first request may take a connection that was kept open, and is made again at once on a new one."""
LAST_TRY = 1
"""At the end of the program."""

HTML = {"body": b"<html><h1>upstream is away</h1></html>", "content_type": "text/html"}


class Ends(Enum):
    """When a fault is over."""

    BY_ITSELF = "by itself"
    """Or the server's last word is said: the same run brings everything where it belongs."""
    WITH_THE_RUN = "with the run"
    """What waits is brought by the next run, in this process."""
    BEFORE_THE_NEXT_PROCESS = "before the next process"
    """What waits is brought by a program that is launched later."""
    NEVER = "never"


def nothing(_: Any) -> None:
    pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One row: a fault, and what it may cost."""

    name: str
    hits: int
    """Requests at most in the first run that hold one and the same event. The next run may add one."""
    ends: Ends = Ends.BY_ITSELF
    faults: tuple[dict[str, Any], ...] = ()
    begin: Callable[[FakeHoneyHive], None] = nothing
    end: Callable[[FakeHoneyHive], None] = FakeHoneyHive.behave
    rejects: tuple[str, ...] = ()
    answer: str = ""
    """What the server said of a refused event; stands in the head of its file."""
    hides: bool = False
    """It stores events without saying so: they may come again, and wait on disk beside it."""
    texts: tuple[str, ...] = TEXTS
    timeout_s: float = 10.0
    also: tuple[Callable[[Case], None], ...] = ()
    """What else holds at the end of the first run."""


def title_of(text: str) -> str:
    """The first two words of a text: the name of an event in this file."""
    return " ".join(text.split()[:2])


def text_of(event: dict[str, Any]) -> str:
    return str(event["inputs"]["chat_history"][0]["content"])


def ask(text: str) -> None:
    litellm.completion(model="gpt-4o", messages=[{"role": "user", "content": text}], mock_response="y")


def what_is_wrong_with(ledger: dict[str, Any]) -> list[str]:
    """The ledgers, of the process and of each exporter, that do not add up."""
    return [
        str(each)
        for each in (ledger, *ledger["exporters"].values())
        if each["created"]
        != each["sent"] + each["pending"] + each["spooled"] + each["rejected"] + sum(each["dropped"].values())
    ]


class LedgerWatch:
    """Looks at the ledger all the time."""

    def __init__(self) -> None:
        self.looks = 0
        self.problems: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._end.wait(0.002):
            self.problems += what_is_wrong_with(honeyhive_autoinstrument.stats())
            self.looks += 1

    def __enter__(self) -> LedgerWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(10)


@dataclasses.dataclass
class Found:
    """Ids of events by title, in each of the places where one can be."""

    stored: dict[str, str]
    waiting: dict[str, str]
    rejected: dict[str, str]
    answers: dict[str, str]
    """First lines of the files of refused events."""

    @property
    def ids(self) -> dict[str, str]:
        return {**self.stored, **self.waiting, **self.rejected}


class Case:
    """LiteLLM in this process, recorded, with events on their way to a server that misbehaves."""

    def __init__(
        self, plan: Plan, server: FakeHoneyHive, home: Path, log: pytest.LogCaptureFixture, *, url: str | None = None
    ) -> None:
        self.plan = plan
        self.server = server
        self.home = home
        self.log = log
        self.url = url or server.url
        self.first_run_hits: Counter[str] = Counter()

    def __enter__(self) -> Case:
        litellm.suppress_debug_info = True
        self.log.set_level(logging.DEBUG, logger="honeyhive_autoinstrument")
        self.start(self.plan.timeout_s)
        return self

    def __exit__(self, *error: object) -> None:
        honeyhive_autoinstrument.shutdown(EXIT_TIMEOUT_S)
        # What was asked for here would stay for the tests of other files.
        defaults = {field.name: field.default for field in dataclasses.fields(Config)}
        changed = ("batch_max_events", "linger", "timeout", "exit_timeout")
        honeyhive_autoinstrument.init(**{name: defaults[name] for name in changed})
        honeyhive_autoinstrument.shutdown(0)
        honeyhive_autoinstrument.uninstrument()

    def start(self, timeout_s: float) -> None:
        honeyhive_autoinstrument.init(
            api_key=self.server.key,
            api_url=self.url,
            home=str(self.home),
            linger=LINGER_S,
            batch_max_events=BATCH_MAX_EVENTS,
            timeout=timeout_s,
            exit_timeout=EXIT_TIMEOUT_S,
        )

    def close(self) -> float:
        """End the run as the end of a program does; the seconds that it took."""
        began = time.monotonic()
        honeyhive_autoinstrument.shutdown()
        took_s = time.monotonic() - began
        wait_until(lambda: self.server.is_quiet, what="an answer to every request, or a client that gave it up")
        return took_s

    def look(self) -> Found:
        """Where the events are."""
        assert len(self.folders()) <= 1, "one key, one server, one folder"
        waiting: dict[str, str] = {}
        rejected: dict[str, str] = {}
        answers: dict[str, str] = {}
        for folder in self.folders():
            assert folder.stat().st_mode & 0o077 == 0, "others can look into it"
            spool = Spool(str(self.home), folder.name, max_bytes=1 << 30, max_age_s=86_400)
            for path in spool.paths():
                read_into(waiting, spool, path)
            for path in sorted(folder.glob("rejected/*.batch")):
                for title in read_into(rejected, spool, path):
                    answers[title] = path.read_text().splitlines()[0]
        stored = self.server.events
        assert len({title_of(text_of(event)) for event in stored}) == len(stored), "two ids for one event"
        return Found({title_of(text_of(event)): event["event_id"] for event in stored}, waiting, rejected, answers)

    def is_spool_empty(self) -> bool:
        return not any(True for folder in self.folders() for _ in folder.glob("*.batch"))

    def leftovers(self) -> list[str]:
        """What nobody would ever look at again: no event waits in these."""
        patterns = ("*.tmp", "*.journal", "broken/*", "*.broken")
        return [str(path) for folder in self.folders() for pattern in patterns for path in folder.rglob(pattern)]

    def warnings(self) -> Counter[str]:
        ours = (record for record in self.log.records if record.name == "honeyhive_autoinstrument")
        return Counter(record.msg for record in ours if record.levelno >= logging.WARNING)

    def folders(self) -> list[Path]:
        spool = self.home / "spool"
        return [path for path in spool.iterdir() if path.is_dir()] if spool.is_dir() else []

    def batch_requests(self) -> list[Any]:
        with self.server.lock:
            return [request for request in self.server.requests if request.path.endswith("/events/batch")]

    def tries(self) -> int:
        return sum(record.msg.startswith("A batch of") for record in self.log.records)

    def hits(self) -> Counter[str]:
        """Requests by the title of an event that their body held."""
        ids = self.look().ids
        bodies = [request.body for request in self.batch_requests()]
        return Counter({title: sum(each.encode() in body for body in bodies) for title, each in ids.items()})

    def ids_seen(self) -> dict[str, set[str]]:
        """Every id under which an event was ever sent, or is kept."""
        seen: dict[str, set[str]] = defaultdict(set)
        for request in self.batch_requests():
            if request.is_whole:
                for event in request.json["events"]:
                    seen[title_of(text_of(event))].add(event["event_id"])
        for title, each in self.look().ids.items():
            seen[title].add(each)
        return seen


def read_into(found: dict[str, str], spool: Spool, path: Path) -> list[str]:
    """The titles of the events in a file."""
    assert path.stat().st_mode & 0o077 == 0, "others can read it"
    batch = spool.peek(path)
    assert batch is not None, f"{path.name} cannot be read"
    titles = []
    for record in batch.records:
        event = json.loads(record.body)
        title = title_of(text_of(event))
        assert title not in found, f"{title} is in two files"
        assert record.id == event["event_id"]
        found[title] = record.id
        titles.append(title)
    return titles


# -- what else holds for some rows -------------------------------------------------------------------------------------


def seen_twice(case: Case) -> dict[str, tuple[float, float]]:
    """When the first two requests with an event came, for those events that came more than once."""
    times = {
        title: [request.at for request in case.batch_requests() if each.encode() in request.body]
        for title, each in case.look().ids.items()
    }
    return {title: (at[0], at[1]) for title, at in times.items() if len(at) > 1}


def waits_a_second(case: Case) -> None:
    twice = seen_twice(case)
    assert twice
    assert min(second - first for first, second in twice.values()) >= 1.0


def waits_for_the_date(case: Case) -> None:
    twice = seen_twice(case)
    ((_, date),) = case.server.plan[0].headers
    not_before = email.utils.parsedate_to_datetime(date).timestamp()
    assert twice
    assert min(second for _, second in twice.values()) >= not_before


def something_waits(case: Case) -> None:
    assert case.look().waiting


def everything_waits(case: Case) -> None:
    assert set(case.look().waiting) == {title_of(text) for text in case.plan.texts}


def asks_rarely(case: Case) -> None:
    """Each of two workers may be under way when the first refusal comes, and may try the legacy routes."""
    assert 1 <= len(case.server.requests) <= 6


def warns_once(case: Case) -> None:
    assert case.warnings().total() == 1, case.warnings()


def parks_after_five_failures(case: Case) -> None:
    """Five in a row those that other workers had begun, and one at the end. Without it they would be nine or more. What is
    reset on a connection that was kept is asked again at once: one try, by the courier's own account, of two requests."""
    assert 5 <= case.tries() <= 7
    assert case.plan.name.startswith("reset") or len(case.batch_requests()) <= 7


def gives_up_in_time(case: Case) -> None:
    assert case.server.given_up
    assert max(case.server.given_up) < case.plan.timeout_s + SLACK_S


def keeps_head_and_tail(case: Case) -> None:
    (text,) = [text_of(event) for event in case.server.events if title_of(text_of(event)) == ODD]
    assert text.startswith(f"{ODD} head")
    assert text.endswith("tail")
    assert len(text) < PROXY_LIMIT_BYTES


# -- the rows ----------------------------------------------------------------------------------------------------------


def fault(**how: Any) -> tuple[dict[str, Any], ...]:
    return ({"path": BATCHES, **how},)


def fault_anywhere(**how: Any) -> tuple[dict[str, Any], ...]:
    return ({"path": "/", **how},)


def message(text: str) -> bytes:
    return json.dumps({"statusCode": 400, "message": text, "success": False}).encode()


def retry_in_two_seconds(server: FakeHoneyHive) -> None:
    date = email.utils.formatdate(int(time.time()) + 2, usegmt=True)
    server.misbehave(status=429, headers=(("retry-after", date),), path=BATCHES, times=1)


def accept_slowly(server: FakeHoneyHive) -> None:
    server.accept_delay_s = 0.1


def answers_200() -> Iterator[Plan]:
    yield Plan(name="200", hits=1)
    yield Plan(name="200 after a while", faults=fault(status=200, delay_s=0.15), hits=1)
    yield Plan(name="200 without ids", faults=fault(status=200, body=b'{"success":true}'), hits=1)
    yield Plan(name="200 that is no JSON", faults=fault(status=200, body=b"OK"), hits=1)
    yield Plan(
        name="200 that leaves out ids, once",
        faults=fault(status=200, takes_first=1, above_bytes=ONE_EVENT_BYTES, times=1),
        hits=2,
    )
    yield Plan(
        name="200 that leaves out one event, always",
        faults=fault(status=200, leaves_out=ODD.encode(), holds=ODD.encode()),
        rejects=(ODD,),
        hits=3,  # with others, alone, and alone once more
    )


def answers_that_refuse() -> Iterator[Plan]:
    yield Plan(
        name="400 for one event, once",
        faults=fault(status=400, body=message("not now"), holds=ODD.encode(), above_bytes=ONE_EVENT_BYTES, times=1),
        hits=2,
    )
    for status in (400, 409, 422):
        yield Plan(
            name=f"{status} for one event, always",
            faults=fault(status=status, body=message("no seven"), holds=ODD.encode()),
            rejects=(ODD,),
            answer="no seven",
            hits=HALVINGS,
        )
    yield Plan(
        name="400 for every event, always",
        faults=fault(status=400, body=message("nothing of this")),
        rejects=TEXTS,
        answer="nothing of this",
        hits=HALVINGS,
    )


def answers_that_mean_a_wrong_key_or_url() -> Iterator[Plan]:
    for status in (401, 402, 403, 404, 405, 407, 410, 301, 302, 307, 308):
        yield Plan(
            name=f"{status}, always",
            faults=fault_anywhere(
                status=status, body=message("who are you?"), headers=(("location", "/login"),) if status < 400 else ()
            ),
            ends=Ends.BEFORE_THE_NEXT_PROCESS if status == 401 else Ends.WITH_THE_RUN,
            hits=0,  # no event before its session row
            also=(everything_waits, asks_rarely, warns_once),
        )


def answers_that_pass() -> Iterator[Plan]:
    for status in (408, 425, 429, 500, 502, 503, 504):
        body = HTML if status in (502, 504) else {"body": b""}
        yield Plan(name=f"{status}, once", faults=fault(status=status, times=1, **body), hits=2)
        if status in (408, 425, 504):
            continue  # lasting, they are no different
        yield Plan(
            name=f"{status}, always",
            faults=fault(status=status, **body),
            ends=Ends.WITH_THE_RUN,
            hits=TRIES + LAST_TRY,
            also=(everything_waits, parks_after_five_failures),
        )
    yield Plan(
        name="503 on every route, always",
        faults=fault_anywhere(status=503, **HTML),
        ends=Ends.WITH_THE_RUN,
        hits=0,
        also=(everything_waits,),
    )
    yield Plan(
        name="503 on every route, for four requests",
        faults=fault_anywhere(status=503, **HTML, times=4),
        hits=TRIES + 1,  # read back from disk
    )
    yield Plan(name="503 on session rows, once", faults=({"status": 503, "path": SESSIONS, "times": 1},), hits=1)


def answers_with_retry_after() -> Iterator[Plan]:
    for status in (429, 503):
        yield Plan(
            name=f"{status} with Retry-After in seconds, once",
            faults=fault(status=status, headers=(("retry-after", "1"),), times=1),
            hits=2,
            also=(waits_a_second,),
        )
    yield Plan(
        name="429 with Retry-After as a date, once", begin=retry_in_two_seconds, hits=2, also=(waits_for_the_date,)
    )
    for value in ("-5", "soon", "nan", "Wed, 99 Foo 9999"):
        yield Plan(
            name=f"429 with Retry-After {value!r}, once",
            faults=fault(status=429, headers=(("retry-after", value),), times=1),
            hits=2,
        )
    for value in ("1e99", "86400", "inf"):
        yield Plan(
            name=f"429 with Retry-After {value!r}, once",
            faults=fault(status=429, headers=(("retry-after", value),), times=1),
            ends=Ends.WITH_THE_RUN,
            hits=1,  # 300 s are not over
            also=(something_waits,),
        )


def answers_that_name_the_size() -> Iterator[Plan]:
    too_large: dict[str, dict[str, Any]] = {
        "413": {"status": 413, "body": b"<html>413 Request Entity Too Large</html>", "content_type": "text/html"},
        "400 naming the size": {"status": 400, "body": message("Request body too large")},
    }
    with_a_huge_one = tuple(f"{text} head {'x' * HUGE_BYTES} tail" if title_of(text) == ODD else text for text in TEXTS)
    for name, how in too_large.items():
        yield Plan(
            name=f"{name}, by the size of the body",
            faults=fault(**how, above_bytes=TWO_EVENTS_BYTES),
            hits=HALVINGS,
        )
        yield Plan(
            name=f"{name}, one huge event",
            faults=fault(**how, above_bytes=PROXY_LIMIT_BYTES),
            texts=with_a_huge_one,
            hits=HALVINGS + SHORTENINGS,
            also=(keeps_head_and_tail,),
        )
        yield Plan(
            name=f"{name}, one event of any size",
            faults=fault(**how, holds=ODD.encode()),
            texts=with_a_huge_one,
            rejects=(ODD,),
            answer=name[:3],
            hits=HALVINGS + 2 * SHORTENINGS,  # down to nothing but its head and tail
        )


def answers_of_a_batch_stored_in_part() -> Iterator[Plan]:
    yield Plan(
        name="500 that took one and names it, once",
        faults=fault(status=500, takes_first=1, above_bytes=ONE_EVENT_BYTES, times=1),
        hits=2,
    )
    yield Plan(name="500 that took two and names them, always", faults=fault(status=500, takes_first=2), hits=3)
    yield Plan(
        name="500 that took two and names none, once",
        faults=fault(status=500, takes_first=2, names_ids=False, times=1),
        hides=True,
        hits=2,
    )
    yield Plan(
        name="500 that took two and names none, always",
        faults=fault(status=500, takes_first=2, names_ids=False),
        ends=Ends.WITH_THE_RUN,
        hides=True,
        hits=TRIES + LAST_TRY,
        also=(everything_waits, parks_after_five_failures),
    )
    yield Plan(
        name="500 that took all and names none, once",
        faults=fault(status=500, stores=True, times=1),
        hides=True,
        hits=2,
    )
    yield Plan(
        name="500 that names ids nobody sent, once",
        faults=fault(status=500, body=b'{"event_ids":["x",5,null],"errors":["x"],"success":true}', times=1),
        hits=2,
    )


def connections_that_end_early() -> Iterator[Plan]:
    rows: dict[str, tuple[dict[str, Any], bool]] = {
        "reset before the body is read": ({"reads": 0.0}, False),
        "reset in the middle of the body": ({"reads": 0.5}, False),
        "reset after the body is read": ({"reset": True, "stores": True}, True),
        "closed instead of an answer": ({"closes": True}, False),
        "cut in the middle of the answer": ({"status": 200, "is_truncated": True}, True),
    }
    for name, (how, hides) in rows.items():
        yield Plan(name=f"{name}, once", faults=fault(**how, times=1), hides=hides, hits=2)
        if not name.startswith("reset"):
            continue  # lasting, they are no different
        yield Plan(
            name=f"{name}, always",
            faults=fault(**how),
            ends=Ends.WITH_THE_RUN,
            hides=hides,
            hits=KEPT + TRIES + LAST_TRY,
            also=(everything_waits, parks_after_five_failures),
        )
    yield Plan(
        name="reset on every route, for four requests", faults=fault_anywhere(reset=True, times=4), hits=TRIES + 1
    )
    yield Plan(
        name="connections are refused",
        begin=FakeHoneyHive.stop,
        end=FakeHoneyHive.start,
        ends=Ends.BEFORE_THE_NEXT_PROCESS,
        hits=0,
        also=(everything_waits,),
    )


def answers_that_do_not_come_in_time() -> Iterator[Plan]:
    rows: dict[str, tuple[dict[str, Any], bool]] = {
        "drips from its head on": ({"status": 200, "drips_from": "head"}, True),
        "drips from its body on": ({"status": 200, "drips_from": "body"}, True),
        "never comes": ({"is_silent": True}, False),
        "never comes, though all is stored": ({"is_silent": True, "stores": True}, True),
    }
    for name, (how, hides) in rows.items():
        yield Plan(
            name=f"the answer {name}, once",
            faults=fault(**how, times=1),
            hides=hides,
            timeout_s=SHORT_S,
            hits=2,
            also=(gives_up_in_time,),
        )
        if name == "never comes, though all is stored":
            continue  # lasting, it is no different from one that drips
        yield Plan(
            name=f"the answer {name}, always",
            faults=fault(**how),
            ends=Ends.WITH_THE_RUN,
            hides=hides,
            timeout_s=SHORTER_S,
            hits=TRIES + LAST_TRY,
            also=(everything_waits, gives_up_in_time, parks_after_five_failures),
        )
    yield Plan(
        name="no answer on any route, always",
        faults=fault_anywhere(is_silent=True),
        ends=Ends.WITH_THE_RUN,
        timeout_s=SHORTER_S,
        hits=0,
        also=(everything_waits, gives_up_in_time),
    )
    yield Plan(name="connections are accepted slowly", begin=accept_slowly, hits=1)
    yield Plan(
        name="connections are accepted too late",
        begin=lambda server: server.accepting.clear(),
        end=lambda server: server.accepting.set(),
        ends=Ends.WITH_THE_RUN,
        timeout_s=SHORTER_S,
        hits=0,
        also=(everything_waits,),
    )


PLANS = (
    *answers_200(),
    *answers_that_refuse(),
    *answers_that_mean_a_wrong_key_or_url(),
    *answers_that_pass(),
    *answers_with_retry_after(),
    *answers_that_name_the_size(),
    *answers_of_a_batch_stored_in_part(),
    *connections_that_end_early(),
    *answers_that_do_not_come_in_time(),
)


# -- the rule ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def litellm_is_warm() -> None:
    """Its first call takes a third of a second, in which a batch would be closed by its age."""
    ask("warm up")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"  # the same as a launched program's


def first_run(case: Case) -> None:
    """Ask, bring out, end; then look at everything."""
    plan = case.plan
    began = time.monotonic()
    faults = [case.server.misbehave(**how) for how in plan.faults]
    plan.begin(case.server)
    with LedgerWatch() as watch:
        for text in plan.texts:
            ask(text)
        assert honeyhive_autoinstrument.flush(SETTLED_WITHIN_S), honeyhive_autoinstrument.stats()
        if plan.ends is Ends.BY_ITSELF:
            wait_until(lambda: not unsettled(), BACK_WITHIN_S, "every event sent or refused")
        ended_in_s = case.close()
    ledger = honeyhive_autoinstrument.stats()
    found = case.look()
    titles = {title_of(text) for text in plan.texts}

    assert watch.looks > 0
    assert watch.problems == []
    assert all(each.met for each in faults), "the fault never came about"
    assert ended_in_s < EXIT_TIMEOUT_S + SLACK_S

    assert set(found.ids) == titles, "lost"
    assert case.leftovers() == []
    assert set(found.rejected) == set(plan.rejects)
    assert all(plan.answer in answer for answer in found.answers.values())
    assert not set(found.rejected) & (set(found.stored) | set(found.waiting))
    if plan.ends is Ends.BY_ITSELF:
        assert found.waiting == {}
    if not plan.hides:
        assert not set(found.stored) & set(found.waiting), "in two places"
        assert set(case.server.arrivals.values()) <= {1}

    assert (ledger["created"], ledger["pending"], ledger["dropped"]) == (len(titles), 0, {})
    assert ledger["spooled"] == len(found.waiting)
    assert ledger["rejected"] == len(found.rejected)
    assert what_is_wrong_with(ledger) == []

    case.first_run_hits = case.hits()
    assert max(case.first_run_hits.values()) <= plan.hits
    assert {title: len(ids) for title, ids in case.ids_seen().items()} == dict.fromkeys(titles, 1)
    for holds in plan.also:
        holds(case)
    assert max(case.warnings().values(), default=0) <= 1 + (time.monotonic() - began) // 60, case.warnings()


def unsettled() -> int:
    ledger = honeyhive_autoinstrument.stats()
    return int(ledger["created"] - ledger["sent"] - ledger["rejected"])


def next_run(case: Case, run: Run) -> None:
    """The fault is over: another event, and all that waited."""
    plan = case.plan
    rejected_before = case.look().rejected
    plan.end(case.server)
    if plan.ends is Ends.BEFORE_THE_NEXT_PROCESS:
        run(LAUNCHER, "python", app("one_completion.py"), env=case.server.env)
    else:
        with LedgerWatch() as watch:
            case.start(NEXT_TIMEOUT_S)
            ask(LATER)
            assert honeyhive_autoinstrument.flush(SETTLED_WITHIN_S), honeyhive_autoinstrument.stats()
            wait_until(case.is_spool_empty, BACK_WITHIN_S, "an empty spool")
            case.close()
        assert watch.looks > 0
        assert watch.problems == []
    wait_until(lambda: case.server.is_quiet, what="an answer to every request")
    found = case.look()
    titles = {title_of(text) for text in plan.texts}
    hits = case.hits()

    assert found.waiting == {}
    assert case.leftovers() == []
    assert set(found.stored) == (titles - set(plan.rejects)) | {LATER}
    assert found.rejected == rejected_before
    if not plan.hides:
        assert set(case.server.arrivals.values()) == {1}
    assert max(hits[title] - case.first_run_hits[title] for title in found.ids) <= 1
    assert {title: len(ids) for title, ids in case.ids_seen().items()} == dict.fromkeys([*titles, LATER], 1)


@pytest.mark.parametrize("plan", PLANS, ids=[plan.name for plan in PLANS])
def test_whatever_the_server_does_every_event_is_stored_once_or_waits_or_is_set_aside(
    plan: Plan,
    fake_honeyhive: FakeHoneyHive,
    home: Path,
    run: Run,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if parks_after_five_failures in plan.also:
        # Else a batch whose tries take long goes to disk before its last one, and how many are made is chance.
        for module in (courier, uploader):
            monkeypatch.setattr(module, "MEMORY_S", math.inf)
    with Case(plan, fake_honeyhive, home, caplog) as case:
        first_run(case)
        if plan.ends in (Ends.WITH_THE_RUN, Ends.BEFORE_THE_NEXT_PROCESS):
            next_run(case, run)


@pytest.mark.parametrize(
    "url", ["http://does-not-exist.invalid", "https://127.0.0.1:{port}"], ids=["no such name", "TLS to a plain port"]
)
def test_events_for_a_server_that_cannot_be_talked_to_wait_on_disk(
    fake_honeyhive: FakeHoneyHive, home: Path, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    plan = Plan(name=url, ends=Ends.NEVER, hits=0, also=(everything_waits,))
    with Case(plan, fake_honeyhive, home, caplog, url=url.format(port=fake_honeyhive.port)) as case:
        first_run(case)

    assert fake_honeyhive.requests == []


def test_events_wait_while_the_certificate_is_not_trusted_and_go_out_when_it_is(
    home: Path, tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))

    def trust_it(_: FakeHoneyHive) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))

    plan = Plan(name="TLS", ends=Ends.WITH_THE_RUN, end=trust_it, hits=0, also=(everything_waits,))
    with FakeHoneyHive(tls=context) as server, Case(plan, server, home, caplog) as case:
        first_run(case)
        assert server.requests == []

        next_run(case, run)

        assert server.problems == []


@pytest.mark.parametrize("away_s", [pytest.param(seconds, marks=pytest.mark.slow) for seconds in (3.0, 60.0)])
def test_a_server_that_is_gone_for_a_while_has_everything_once_when_it_is_back(
    fake_honeyhive: FakeHoneyHive, home: Path, caplog: pytest.LogCaptureFixture, away_s: float
) -> None:
    plan = Plan(name="gone", hits=1)
    with Case(plan, fake_honeyhive, home, caplog) as case, LedgerWatch() as watch:
        for text in TEXTS[:4]:
            ask(text)
        assert honeyhive_autoinstrument.flush(SETTLED_WITHIN_S)
        wait_until(lambda: fake_honeyhive.is_quiet, what="an answer to every request")

        fake_honeyhive.stop()
        back_at = time.monotonic() + away_s
        for number, text in enumerate(TEXTS[4:8], 1):
            ask(text)
            due = back_at - away_s * (1 - number / 4)
            wait_until(lambda due=due: time.monotonic() >= due, away_s + 1, "the next question's time")
        assert sorted(map(text_of, fake_honeyhive.events)) == sorted(TEXTS[:4])
        fake_honeyhive.start()
        for text in TEXTS[8:]:
            ask(text)
        wait_until(lambda: not unsettled(), BACK_WITHIN_S, "every event sent")
        case.close()
        found = case.look()

        assert watch.looks > 0
        assert watch.problems == []
        assert set(found.stored) == set(TEXTS)
        assert (found.waiting, found.rejected) == ({}, {})
        assert set(fake_honeyhive.arrivals.values()) == {1}
        assert max(case.hits().values()) <= plan.hits
