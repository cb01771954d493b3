"""ConsoleSink: one line of JSON for each Event, on stderr. For looking at what would be sent; stdout is the program's."""

from __future__ import annotations

import sys

from honeyhive_autoinstrument.delivery.sink import Answer, Batch, Outcome


class ConsoleSink:
    """Writes Events to stderr. Safe from several threads: each Batch is one write."""

    def send(self, batch: Batch) -> Answer:
        try:
            sys.stderr.write("".join(record.body.decode("utf-8", "replace") + "\n" for record in batch.records))
        except (OSError, ValueError) as error:  # closed or broken
            return Answer(outcome=Outcome.REJECTED, detail=f"stderr cannot be written ({type(error).__name__})")
        return Answer(outcome=Outcome.DELIVERED)

    def hurry(self, seconds: float) -> None:
        """There is nothing to wait for."""

    def has_contact(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing of ours to close."""

    def before_fork(self) -> None:
        """Nothing to hold."""

    def after_fork_in_parent(self) -> None:
        """Nothing was held."""

    def after_fork(self) -> None:
        """Nothing of the parent's."""
