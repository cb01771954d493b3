"""Runtime: the one object of the process. It wires the rooms and owns what must be per process.

This file holds the one module variable of the product. It is imported with the first `import litellm` (or by `init()`),
never before.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from honeyhive_autoinstrument._faults import LOGGER_NAME, faults, harmless, log
from honeyhive_autoinstrument.activation import bootstrap
from honeyhive_autoinstrument.activation.endings import Endings
from honeyhive_autoinstrument.capture.additions import Update
from honeyhive_autoinstrument.capture.call import Call
from honeyhive_autoinstrument.capture.recorder import Recorder
from honeyhive_autoinstrument.config import Config
from honeyhive_autoinstrument.events.facts import Ending, Session
from honeyhive_autoinstrument.events.ids import uuid_of
from honeyhive_autoinstrument.patches.apply import Patches
from honeyhive_autoinstrument.patience import take_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from honeyhive_autoinstrument.activation.pipeline import Pipeline

NOTHING_YET: dict[str, Any] = {
    "created": 0,
    "sent": 0,
    "pending": 0,
    "spooled": 0,
    "rejected": 0,
    "sampled_out": 0,
    "dropped": {},
    "exporters": {},
    "session_id": None,
    "hooks": {},
}
"""The ledger before the first Call has ended."""

FORK_WAIT_S = 2.0
"""How long a fork waits for another thread's first Call; that takes a twentieth of a second."""

FLUSH_S = 30.0
"""Default time for `flush()`."""


class Runtime:
    """Everything of ours in one process: settings, patches, recorder, uploaders, the process session."""

    def __init__(self, config: Config, way: str) -> None:
        self.config = config
        self.way = way
        self.recorder = Recorder(self._submit)
        self.recorder.capture_raw = config.capture_raw
        self.patches = Patches(self.recorder)
        self._lock = threading.RLock()
        self._is_held = False
        self.is_shut_down = False
        """Whether `shut_down` ended the delivery; `init()` begins it anew."""
        self._pipeline: Pipeline | None = None
        self._early: deque[Call | Update] = deque(maxlen=config.queue_max_events)
        """Calls that ended before the Pipeline was there."""
        self._is_opening = False
        self._session: Session | None = None
        self._session_for: tuple[str | None, str | None] = (None, None)
        self._said: set[str] = set()
        self._started_ms = time.time() * 1000
        self._endings = Endings(deliver_at_end, is_amid_work, before_exec, after_failed_exec)
        self.settings: dict[str, Any] = {}
        """What `init()` was given so far."""

    def start(self) -> None:
        """Hook into logging, fork, multiprocessing, SIGTERM and notebooks. Once per Runtime."""
        _set_up_logging(self.config.debug)
        self._say_notices()
        os.register_at_fork(
            before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
        )
        self._endings.watch()
        _flush_after_notebook_cells()

    def patch(self, *, is_late: bool) -> None:
        """Wrap what LiteLLM has. Repeating it wraps only what is not wrapped yet."""
        self.patches.apply(is_late=is_late)
        log.debug(
            "Recording LiteLLM: switched on by %s; %d functions wrapped; not there (or not yet): %s",
            self.way,
            len(self.patches.wrapped),
            ", ".join(self.patches.missing) or "none",
        )

    def reconfigure(self, config: Config) -> None:
        """Settings given to `init()` after an automatic start: what is queued still goes out under the old ones."""
        closed: Pipeline | None = None
        while True:
            with self._lock:
                pipeline = self._pipeline
                if pipeline is closed:
                    self._pipeline = None
                    self.config = config
                    self.recorder.capture_raw = config.capture_raw
                    self.is_shut_down = False
                    break
            # Closed before the next one opens: two at once would read the same files and send them twice. What ends
            # meanwhile is put to disk. Not under the lock, which a fork waits for.
            if pipeline is not None:
                pipeline.close(config.exit_timeout)
            closed = pipeline
        _set_up_logging(config.debug)
        self._say_notices()

    def _say_notices(self) -> None:
        for notice in self.config.notices:
            if notice not in self._said:
                self._said.add(notice)
                log.warning("HoneyHive recording: %s Recording goes on.", notice)

    def uninstrument(self) -> None:
        """Put every original back."""
        self.patches.restore()

    def flush(self, timeout_s: float) -> bool:
        """Bring out what is recorded so far. True: nothing is pending any more."""
        return self._pipeline is None or self._pipeline.flush(timeout_s)

    def shut_down(self, timeout_s: float) -> None:
        """End open streams, bring out what can be brought out in the time, keep the rest on disk."""
        try:
            self.recorder.end_open_streams(Ending.ABANDONED)
            self.is_shut_down = True
            if self._pipeline is not None:
                self._pipeline.close(timeout_s)
        except BaseException:
            # A Ctrl-C of somebody who does not want to wait: what is not sent yet goes to disk, then it is theirs.
            if self._pipeline is not None:
                self._pipeline.close(0)
            raise

    @harmless("take SIGTERM", None)
    def take_sigterm(self) -> None:
        """See that a SIGTERM ends the process only when everything is out or on disk, where nobody else has taken it."""
        self._endings.handle_sigterm()

    def hold_sigterm(self) -> None:
        """Before a fork."""
        self._endings.hold_sigterm()

    def let_sigterm_go(self, *, in_child: bool) -> None:
        """After it."""
        self._endings.let_sigterm_go(in_child=in_child)

    def is_amid_work(self) -> bool:
        """Whether the calling thread is in the middle of taking a Call, or the first one is being taken."""
        return self._is_opening or (self._pipeline is not None and self._pipeline.is_locked_here())

    def go_on(self) -> None:
        """After `shut_down`, where the process did not end after all."""
        self.is_shut_down = False
        if self._pipeline is not None:
            self._pipeline.reopen()

    def stats(self) -> dict[str, Any]:
        """The ledger (of the first exporter, and of each), Faults, and the id of the process session."""
        ledger = NOTHING_YET if self._pipeline is None else self._pipeline.stats()
        return {**ledger, "faults": faults.counts()}

    def before_fork(self) -> None:
        """Hold what must not be cut in half."""
        self._endings.watch_children()
        self._is_held = take_lock(self._lock.acquire, FORK_WAIT_S)
        if self._pipeline is not None:
            self._pipeline.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._pipeline is not None:
            self._pipeline.after_fork_in_parent()
        if self._is_held:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Fresh queues, locks and threads on first use. Assigns only."""
        self._lock = threading.RLock()
        self._early.clear()
        self._is_opening = False
        self.is_shut_down = False
        faults.after_fork()
        self.recorder.after_fork()
        if self._pipeline is not None:
            self._pipeline.after_fork_in_child()
        self._endings.after_fork()

    def enrich(self, buckets: Mapping[str, Mapping[str, Any]]) -> bool:
        """Add to the Call that surrounds the running code, else to the last one begun in this context."""
        handle = self.recorder.handle_here()
        if handle is None or not buckets:
            return False
        if not self.recorder.additions.add(handle, buckets, self.recorder.generation):
            self.update(uuid_of(handle.number), buckets)
        return True

    def update(self, event_id: str, buckets: Mapping[str, Mapping[str, Any]]) -> None:
        """Change an Event that has an id already, whether it has been sent or not."""
        self._submit(Update(event_id=event_id, buckets=buckets, made_s=time.time()))

    @harmless("take an ended call", None)
    def _submit(self, call: Call | Update) -> None:
        if sys.is_finalizing():
            return  # a finalizer in the last moments: modules are half gone, no thread can start
        pipeline = self._pipeline
        if pipeline is None:
            self._early.append(call)
            self._open_pipeline()
        else:
            pipeline.submit(call)

    def _open_pipeline(self) -> None:
        # Under the lock that a fork waits for: a child must not inherit a half-imported module.
        with self._lock:
            if self._is_opening:
                return  # a finalizer that the collector runs in the middle of this; its Call is sent below
            self._is_opening = True
            try:
                if self._pipeline is None:
                    self._pipeline = self._new_pipeline()
            finally:
                self._is_opening = False
            while self._early:
                self._pipeline.submit(self._early.popleft())

    def _new_pipeline(self) -> Pipeline:
        from honeyhive_autoinstrument.activation.pipeline import Pipeline
        from honeyhive_autoinstrument.activation.sessions import process_session_of

        wanted = (self.config.session_id, self.config.session_name)
        if self._session is None or self._session_for != wanted:
            # Settings that do not name another session leave the process in the one it has.
            self._session = process_session_of(self.config, program_name(), self._started_ms)
            self._session_for = wanted
        pipeline = Pipeline(self.config, self._session)
        if self.is_shut_down:
            pipeline.close(0)  # no threads any more; what comes goes to disk at once
        return pipeline


def program_name() -> str:
    """The name of the process session: the program's, or `notebook` in IPython."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")
    argv = getattr(sys, "argv", None) or [""]
    name = os.path.basename(argv[0])
    if name.startswith(("ipykernel_launcher", "colab_kernel_launcher")):
        return "notebook"
    return name if name and name not in ("-c", "-m", "-") else "python"


def _set_up_logging(debug: bool) -> None:
    # No handler: by default warnings reach stderr through logging's last resort, and the application's set-up wins.
    logger = logging.getLogger(LOGGER_NAME)
    if debug and logger.level == logging.NOTSET:
        logger.setLevel(logging.DEBUG)
        if not logger.hasHandlers():
            logger.addHandler(logging.StreamHandler())


# -- the one Runtime of the process ------------------------------------------------------------------------------------

_runtime: Runtime | None = None
_activation = threading.RLock()
"""Two threads that switch on at once make one Runtime."""


def activate_runtime(way: str) -> Runtime:
    """The Runtime of this process, made and wired with the first call; LiteLLM is wrapped if it is loaded."""
    global _runtime
    with _activation:
        if _runtime is None:
            _runtime = Runtime(Config.from_env(), way)
            _runtime.start()
    library = sys.modules.get(bootstrap.LIBRARY)
    if library is not None and bootstrap.is_complete(library):
        _runtime.patch(is_late=not _is_being_imported(library))
    return _runtime


def init(**settings: Any) -> Runtime:
    """Switch the recording on with explicit settings; they win over the environment. Safe to call again.

    :param settings: fields of `Config`, for example `api_key="hh_..."`, `session_name="nightly"`.
    :returns: the Runtime, with `flush`, `shut_down`, `stats`, `uninstrument`.
    """
    global _runtime
    with _activation:
        if _runtime is None:
            _runtime = Runtime(Config.from_env(**settings), "init()")
            _runtime.start()
        else:
            # Settings given before stay, unless they are given again.
            config = Config.from_env(**{**_runtime.settings, **settings})
            if config != _runtime.config or _runtime.is_shut_down:
                _runtime.reconfigure(config)
        _runtime.settings.update(settings)
    bootstrap.wait_for_library("init()")
    return _runtime


def current_runtime() -> Runtime | None:
    """The Runtime of this process, if the recording was ever switched on."""
    return _runtime


def flush(timeout: float = FLUSH_S) -> bool:
    """Bring out what is recorded so far.

    :param timeout: seconds at most.
    :returns: whether nothing is pending any more.
    """
    return True if _runtime is None else _runtime.flush(timeout)


def shutdown(timeout: float | None = None) -> None:
    """Flush, put the rest to disk, stop the threads. Calls made after this are kept on disk one by one (with durability
    `memory`, or the console alone: dropped and counted).

    :param timeout: seconds at most; by default the setting `exit_timeout`.
    """
    if _runtime is not None:
        _runtime.shut_down(_runtime.config.exit_timeout if timeout is None else timeout)


def stats() -> dict[str, Any]:
    """The ledger: `created` = `sent` + `pending` + `spooled` + `rejected` + `dropped` (by reason) + `sampled_out`; the same
    for each of `exporters`; `hooks`: how often MASK and ENRICH failed or took too long; `faults`, by operation."""
    return {} if _runtime is None else _runtime.stats()


def uninstrument() -> None:
    """Stop recording: every original object of LiteLLM is back in its place."""
    bootstrap.stop_waiting()
    if _runtime is not None:
        _runtime.uninstrument()


def at_exit() -> None:
    """Called when the interpreter ends, after the program's own exit handlers."""
    if _runtime is not None:
        # LiteLLM may have come on another thread, which cannot do this; a SIGTERM must not cut short what follows.
        _runtime.take_sigterm()
        deliver_at_end()


@harmless("deliver at the end", None)
def deliver_at_end() -> None:
    """This process ends: bring out what can be brought out in the time, keep the rest on disk."""
    if _runtime is not None:
        _runtime.shut_down(_runtime.config.exit_timeout)


@harmless("look whether work of ours is interrupted", False)
def is_amid_work() -> bool:
    """Whether the calling thread is in the middle of taking a Call: a signal's handler may find itself there."""
    return _runtime is not None and _runtime.is_amid_work()


@harmless("deliver before exec", False)
def before_exec() -> bool:
    """The process becomes another program: for ours it is the end. False: it has ended before."""
    if _runtime is None or _runtime.is_shut_down:
        return False
    _runtime.shut_down(_runtime.config.exit_timeout)
    return True


@harmless("go on after a failed exec", None)
def after_failed_exec() -> None:
    """It did not."""
    if _runtime is not None:
        _runtime.go_on()


def hold_sigterm() -> None:
    """Called last before a fork."""
    if _runtime is not None:
        _runtime.hold_sigterm()


def let_sigterm_go() -> None:
    """Called first after a fork, in the parent."""
    if _runtime is not None:
        _runtime.let_sigterm_go(in_child=False)


def let_sigterm_go_in_child() -> None:
    """Called first after a fork, in the child."""
    if _runtime is not None:
        _runtime.let_sigterm_go(in_child=True)


def _is_being_imported(library: types.ModuleType) -> bool:
    return bool(getattr(library.__spec__, "_initializing", False))


def _before_fork() -> None:
    if _runtime is not None:
        _runtime.before_fork()


def _after_fork_in_parent() -> None:
    if _runtime is not None:
        _runtime.after_fork_in_parent()


def _after_fork_in_child() -> None:
    global _activation
    _activation = threading.RLock()
    if _runtime is not None:
        _runtime.after_fork_in_child()


def _flush_after_notebook_cells() -> None:
    """A notebook has no end: what a cell recorded goes out when the cell is done."""
    ipython = sys.modules.get("IPython")
    get_shell: Callable[[], Any] | None = getattr(ipython, "get_ipython", None)
    shell = get_shell() if get_shell is not None else None
    if shell is not None:
        shell.events.register("post_run_cell", _after_cell)


CELL_FLUSH_S = 0.5


@harmless("deliver after a cell", None)
def _after_cell(*_: object) -> None:
    flush(CELL_FLUSH_S)
