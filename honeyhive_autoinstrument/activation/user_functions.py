"""MASK and ENRICH: functions of the user's that see an Event before it leaves. They run on threads of ours, for a limited
time.

Whatever they do (raise, hang, answer nonsense, change what they are given), it costs their time limit at most and never an
Event: what MASK has not answered for is withheld, what ENRICH did not answer is not added. Calls of LiteLLM's that they make
are not recorded, or each would lead to the next.
"""

from __future__ import annotations

import importlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, TypeVar

import orjson

from honeyhive_autoinstrument._faults import faults
from honeyhive_autoinstrument.capture.context import MUTE, current_call
from honeyhive_autoinstrument.events.build import ADDED_TO, OWN_NAMES, TEXTS_IN_METADATA, with_additions
from honeyhive_autoinstrument.events.content import KEPT_TEXTS
from honeyhive_autoinstrument.events.encode import tolerable
from honeyhive_autoinstrument.events.schema import Event, SessionRow
from honeyhive_autoinstrument.patience import Patience, wait_for
from honeyhive_autoinstrument.redaction import MAX_DEPTH, Redactor

WITHHELD = "[withheld]"
"""What stands for a text that MASK did not answer for."""

LOAD_S = 10.0
"""For the import of the module that a setting names."""
MAX_HANGING = 3
"""Threads that a function may keep for itself at a time, and times in a row that it may be late; then it is off."""

Path = tuple[str | int, ...]
MASKED = ("session_name", "inputs", "outputs", "config", "metadata", "user_properties", "feedback", "metrics", "error")
"""What MASK is shown of an Event, a session's row or an Update."""
R = TypeVar("R", Event, SessionRow)
NEVER_WITHHELD = OWN_NAMES - {*TEXTS_IN_METADATA, "user_metadata", "response_headers", "usage"}
"""Facts of ours in `metadata`, which tell of no text."""

_STOP = object()


class UserFunction:
    """One function of the user's, and the thread it runs on."""

    def __init__(self, given: Callable[..., Any] | str, setting: str, timeout_s: float) -> None:
        """
        :param given: the function, or `module:function`.
        :param setting: its name, for warnings.
        """
        self._given = given
        self._function: Callable[..., Any] | None = given if callable(given) else None
        self._setting = setting
        self._timeout_s = timeout_s
        self._is_off = False
        self._let_go_of: list[threading.Event] = []
        """What the threads that were let go have not done yet."""
        self._late_in_a_row = 0
        self.counts: Counter[str] = Counter(failed=0, timed_out=0)
        self._make_fresh()

    def _make_fresh(self) -> None:
        self._turn = threading.RLock()
        """Workers take turns, or one that hangs would let each of them wait for a thread. Re-entrant: with `always`, a
        finalizer that the collector runs while the application's thread waits here may end a Call of its own."""
        self._jobs: SimpleQueue[Any] | None = None

    def start(self) -> None:
        """Start the thread. In the application's, as late as with the first event: once the program ends, none starts."""
        with self._turn:
            self._ready()

    def run(self, work: Callable[[Callable[..., Any]], None]) -> None:
        """Have `work` do something with the function, for as long as is allowed. What it has done by then counts."""
        with self._turn:
            if self._is_off or not self._ready() or not self._load():
                return
            done = threading.Event()
            if self._do(lambda: work(self._function), done, self._timeout_s):  # type: ignore[arg-type]
                self._late_in_a_row = 0
            else:
                self._let_go(done)

    def note_failure(self, what: str) -> None:
        """It raised, or answered what it should not."""
        self.counts["failed"] += 1
        faults.say(f"hook {self._setting}", "HoneyHive: %s %s. Events are sent all the same.", self._name(), what)

    def after_fork(self) -> None:
        """In the child: the thread is the parent's."""
        self._make_fresh()

    def close(self) -> None:
        """The thread ends when it is done; another one comes with the next event, if there is one."""
        jobs, self._jobs = self._jobs, None
        if jobs is not None:
            jobs.put(_STOP)

    def _name(self) -> str:
        given = self._given if isinstance(self._given, str) else getattr(self._given, "__qualname__", "the function")
        return f"{self._setting.upper()} ({given})"

    def _ready(self) -> bool:
        if self._jobs is None:
            jobs: SimpleQueue[Any] = SimpleQueue()
            name = f"honeyhive-{self._setting}"
            try:
                threading.Thread(target=_work_off, args=(jobs,), name=name, daemon=True).start()
            except RuntimeError:
                return False  # the program ends, or the system has no thread left
            self._jobs = jobs
        return True

    def _load(self) -> bool:
        if self._function is None:
            problems: list[str] = []
            if not self._do(lambda: self._find(problems), threading.Event(), LOAD_S):
                problems.append("its import takes too long")
            if self._function is None:
                self._is_off = True
                faults.say(
                    f"hook {self._setting}",
                    "HoneyHive: HONEYHIVE_%s=%s cannot be used (%s). %s",
                    self._setting.upper(),
                    self._given,
                    problems[0] if problems else "it is no function",
                    "Texts are withheld until it can." if self._setting == "mask" else "Events are sent without it.",
                )
        return self._function is not None

    def _find(self, problems: list[str]) -> None:
        module, colon, name = str(self._given).partition(":")
        try:
            if not colon or not name:
                raise ValueError("not of the form module:function")
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
            if not callable(found):
                raise TypeError("no function")
        except BaseException as error:  # noqa: BLE001  (a module of the user's may do anything when it is imported)
            problems.append(f"{type(error).__name__}: {error}")
        else:
            self._function = found

    def _do(self, job: Callable[[], None], done: threading.Event, seconds: float) -> bool:
        """Whether it was done in time; `done` tells when it is."""
        assert self._jobs is not None
        self._jobs.put((job, done))
        return wait_for(done.wait, Patience(seconds, counts_computing=True))

    def _let_go(self, done: threading.Event) -> None:
        """Of a thread that hangs; the next event gets another one, a few times."""
        self.counts["timed_out"] += 1
        self.close()
        self._let_go_of = [done for done in (*self._let_go_of, done) if not done.is_set()]
        self._late_in_a_row += 1
        self._is_off = max(len(self._let_go_of), self._late_in_a_row) > MAX_HANGING
        faults.say(
            f"hook {self._setting} {'is off' if self._is_off else 'hangs'}",
            "HoneyHive: %s took longer than %g s for an event. %s",
            self._name(),
            self._timeout_s,
            "It is not asked any more." if self._is_off else "Events are sent all the same.",
        )


def _work_off(jobs: SimpleQueue[Any]) -> None:
    current_call.set(MUTE)
    while True:
        job = jobs.get()
        if job is _STOP:
            return
        work, done = job
        try:
            work()
        except BaseException:  # noqa: BLE001  (the user's function, on a thread where nobody waits for its error)
            pass
        finally:
            done.set()


class Mask:
    """Puts in place of each text of an Event what the function answers."""

    def __init__(self, function: UserFunction, redactor: Redactor) -> None:
        self.function = function
        self._redactor = redactor

    def apply(self, record: R) -> R:
        """An Event, or a session's row, with its texts masked; what was not answered for is withheld."""
        values = {name: getattr(record, name) for name in MASKED if getattr(record, name, None)}
        return replace(record, **self.masked(values))

    def masked(self, values: dict[str, Any]) -> dict[str, Any]:
        """The same for buckets by name, and the text of an error."""
        texts = list(_texts_in(values, ()))
        answers: list[Any] = []
        problems: list[str] = []

        def ask(function: Callable[..., Any]) -> None:
            for path, text in texts:
                answer: Any = None
                try:
                    answer = function(path, text)
                    if answer is not text and not _is_plain(answer):
                        problems.append(f"answered with {type(answer).__name__}")
                        answer = None
                except BaseException as error:  # noqa: BLE001  (whatever the user's function raises)
                    problems.append(f"raised {type(error).__name__}")
                answers.append(answer)

        if texts:
            self.function.run(ask)
        if problems:
            self.function.note_failure(problems[0])
        answered = list(answers)  # the thread may still be at it
        replies = iter(
            [
                self._reply(path, text, answered[number] if number < len(answered) else None)
                for number, (path, text) in enumerate(texts)
            ]
        )
        done: dict[str, Any] = _with_texts(values, replies)
        if not isinstance(done.get("error", ""), str):
            done["error"] = str(done["error"])
        return done

    def _reply(self, path: Path, text: str, answer: Any) -> Any:
        if answer is None:
            return text if _is_structure(path) else WITHHELD
        return text if answer is text else self._redactor.value(answer)


class Enrich:
    """Adds to an Event what the function answers."""

    def __init__(self, function: UserFunction, redactor: Redactor) -> None:
        self.function = function
        self._redactor = redactor

    def apply(self, event: Event) -> Event:
        """The Event with what is added to it, or as it was."""
        added: dict[str, dict[str, Any]] = {}
        problems: list[str] = []
        copy = _json_form(event)

        def ask(function: Callable[..., Any]) -> None:
            try:
                answer = function(copy)
                if isinstance(answer, Mapping):
                    added.update(_buckets_of(answer))
                elif answer is not None:
                    problems.append(f"answered with {type(answer).__name__}, where a dictionary or None is expected")
            except BaseException as error:  # noqa: BLE001  (whatever the user's function raises)
                problems.append(f"raised {type(error).__name__}")

        self.function.run(ask)
        if problems:
            self.function.note_failure(problems[0])
        return with_additions(event, dict(added), self._redactor)


def _json_form(event: Event) -> dict[str, Any]:
    form: dict[str, Any] = orjson.loads(orjson.dumps(event, default=tolerable))
    return form


def _buckets_of(answer: Mapping[Any, Any]) -> dict[str, dict[str, Any]]:
    """What an answer adds, by bucket; what is named like none of them belongs to `metadata`."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in answer.items():
        if name in ADDED_TO and isinstance(value, Mapping):
            found.setdefault(name, {}).update({str(key): tolerable(item) for key, item in value.items()})
        else:
            found.setdefault("metadata", {})[str(name)] = tolerable(value)
    return found


def _texts_in(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if type(value) is str:
        yield path, value
    elif type(value) is dict:
        for key, item in value.items():
            yield from _texts_in(item, (*path, key))
    elif type(value) is list:
        for number, item in enumerate(value):
            yield from _texts_in(item, (*path, number))


def _with_texts(value: Any, replies: Iterator[Any]) -> Any:
    """The value with its texts replaced, in the order in which `_texts_in` finds them."""
    if type(value) is str:
        return next(replies)
    if type(value) is dict:
        return {key: _with_texts(item, replies) for key, item in value.items()}
    if type(value) is list:
        return [_with_texts(item, replies) for item in value]
    return value


def _is_structure(path: Path) -> bool:
    """Whether a text says what kind of thing something is, and nothing that anybody wrote."""
    bucket, name = path[0], path[-1]
    if bucket in ("inputs", "outputs"):
        return (len(path) > 2 and name in KEPT_TEXTS) or path == ("outputs", "role")
    if bucket == "metadata":
        return path[1] in NEVER_WITHHELD
    return path in (("config", "model"), ("config", "provider"))


def _is_plain(value: Any, depth: int = 0) -> bool:
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, list | tuple):
        return all(_is_plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item, depth + 1) for key, item in value.items())
    return isinstance(value, str | int | float) or (value is None and depth > 0)
