"""`session(...)`: the Session of the calls that are made inside, as a context manager and a decorator.

Public, for the application: nothing here raises for what it is given, or costs anything where nothing is recorded. A Scope
is in a context variable (context.py), so it reaches tasks and executors that copy the context; `with_context` is for those
that do not.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import uuid4

from honeyhive_autoinstrument._faults import faults
from honeyhive_autoinstrument.capture.context import current_scope
from honeyhive_autoinstrument.capture.freeze import freeze
from honeyhive_autoinstrument.events.ids import as_uuid

F = TypeVar("F", bound=Callable[..., Any])


class Scope:
    """What is known of the Session inside one `session(...)`."""

    __slots__ = ("metadata", "name", "original_id", "outer", "owner", "started_s", "user_properties", "uuid")

    def __init__(self, owner: session, outer: Scope | None) -> None:
        self.uuid: str
        self.original_id: str | None
        self.name: str | None
        self.started_s: float
        self.owner = owner
        self.outer = outer
        """The Scope around this one."""
        joined = outer if owner.given_id is None and owner.name is None else None
        if joined is not None:
            self.uuid, self.original_id, self.name = joined.uuid, joined.original_id, joined.name
            self.started_s = joined.started_s
            self.user_properties: dict[str, Any] = {**joined.user_properties, **owner.user_properties}
            self.metadata: dict[str, Any] = {**joined.metadata, **owner.metadata}
            return
        self.uuid, self.original_id = (str(uuid4()), None) if owner.given_id is None else as_uuid(owner.given_id)
        self.name = owner.name
        self.started_s = time.time()
        self.user_properties = owner.user_properties
        self.metadata = owner.metadata

    @property
    def id(self) -> str:
        """The UUID of the Session, as its events carry it."""
        return self.uuid


class session:
    """Calls recorded inside join one Session.

    :param id: any text; one that is no UUID is mapped onto one and kept in the metadata. Without it, and without a name,
        inside another `session` that one goes on; else each entry is a Session of its own.
    :param name: what the Session is called in HoneyHive; by default its id, or the program's name.
    :param user: becomes `user_id` among the user properties.
    :param user_properties: of the Session and of every event inside.
    :param metadata: of the Session.
    """

    def __init__(
        self,
        id: str | None = None,
        name: str | None = None,
        *,
        user: str | None = None,
        user_properties: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.given_id = None if id is None or id == "" else str(id)
        self.name = None if name is None or name == "" else str(name)
        self.user_properties = mapping_of(user_properties, "session(user_properties=...)")
        if user is not None:
            self.user_properties["user_id"] = str(user)
        self.metadata = mapping_of(metadata, "session(metadata=...)")

    def __enter__(self) -> Scope:
        scope = Scope(self, current_scope.get())
        current_scope.set(scope)
        return scope

    def __exit__(self, *error: object) -> None:
        scope = current_scope.get()
        if scope is not None and scope.owner is self:
            current_scope.set(scope.outer)

    async def __aenter__(self) -> Scope:
        return self.__enter__()

    async def __aexit__(self, *error: object) -> None:
        self.__exit__(*error)

    def __call__(self, function: F) -> F:
        """The function, with each of its calls inside a `session` of these arguments."""
        wrapper: Any
        if inspect.isasyncgenfunction(function):
            wrapper = self._around_async_generator(function)
        elif inspect.isgeneratorfunction(function):
            wrapper = self._around_generator(function)
        elif inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self._copy():
                    return await function(*args, **kwargs)
        else:

            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self._copy():
                    return function(*args, **kwargs)

        return wrapper  # type: ignore[no-any-return]

    def _copy(self) -> session:
        # Of its own for each call: calls of one function may run side by side, and leave in any order.
        copied = object.__new__(session)
        copied.__dict__.update(self.__dict__)
        return copied

    # A generator runs in the context of whoever asks it for its next piece: the Scope is entered for each piece anew.

    def _around_generator(self, function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            inside = _Inside(self._copy())
            generator = function(*args, **kwargs)
            step: Callable[[], Any] = functools.partial(next, generator)
            while True:
                try:
                    with inside:
                        item = step()
                except StopIteration as end:
                    return end.value
                try:
                    sent = yield item
                except GeneratorExit:
                    with inside:
                        generator.close()
                    raise
                except BaseException as error:  # noqa: BLE001  (thrown in for the generator, which decides)
                    step = functools.partial(generator.throw, error)
                else:
                    step = functools.partial(generator.send, sent)

        return wrapper

    def _around_async_generator(self, function: Callable[..., Any]) -> Any:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            inside = _Inside(self._copy())
            generator = function(*args, **kwargs)
            step: Callable[[], Any] = functools.partial(generator.asend, None)
            while True:
                try:
                    with inside:
                        item = await step()
                except StopAsyncIteration:
                    return
                try:
                    sent = yield item
                except GeneratorExit:
                    with inside:
                        await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001  (thrown in for the generator, which decides)
                    step = functools.partial(generator.athrow, error)
                else:
                    step = functools.partial(generator.asend, sent)

        return wrapper


class _Inside:
    """What a generator has around it while it runs, put aside while its reader does."""

    def __init__(self, owner: session) -> None:
        self._scope: Scope | None = Scope(owner, current_scope.get())
        self._readers: Scope | None = None

    def __enter__(self) -> None:
        self._readers = current_scope.get()
        current_scope.set(self._scope)

    def __exit__(self, *error: object) -> None:
        self._scope = current_scope.get()
        current_scope.set(self._readers)


def with_context(function: F) -> F:
    """The function, to be run in a copy of the context of now: for threads and executors that begin with an empty one.

    `threading.Thread(target=with_context(work))`; it may run several times, also at once.
    """
    context = contextvars.copy_context()

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return context.copy().run(function, *args, **kwargs)

    return wrapper  # type: ignore[return-value]


def mapping_of(given: object, name: str) -> dict[str, Any]:
    """A copy of a dictionary that the application gave, with texts as keys; what is none is left out, and said.

    :param name: of the argument, for the warning.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        faults.say(
            f"argument {name}", "HoneyHive: %s is no dictionary but %s, and is left out.", name, type(given).__name__
        )
        return {}
    try:
        copied = freeze(dict(given))
    except Exception as error:  # noqa: BLE001  (a mapping of the application's may raise anything when it is read)
        faults.say(
            f"argument {name}", "HoneyHive: %s cannot be read (%s), and is left out.", name, type(error).__name__
        )
        return {}
    return {str(key): value for key, value in copied.items()}
