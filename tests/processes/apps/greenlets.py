"""Patches the standard library with its first argument (gevent, eventlet), then asks from many greenlets, and a last few
times when those are sent. Then it does as its second argument says: `ends`; or `waits` to be killed; or, when a server
cannot be reached, `kills` itself from the greenlet that says so."""

import sys

library, then = sys.argv[1:]
if library == "gevent":
    from gevent import monkey

    monkey.patch_all()
else:
    import eventlet

    eventlet.monkey_patch()

import logging  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import time  # noqa: E402

import litellm  # noqa: E402

import honeyhive_autoinstrument  # noqa: E402


def ask(text):
    answer = litellm.completion(
        model="gpt-4o-mini", messages=[{"role": "user", "content": text}], mock_response="heard"
    )
    return answer.choices[0].message.content


TEXTS = [f"greenlet {number}" for number in range(60)]
if library == "gevent":
    from gevent.pool import Pool

    answers = Pool(10).map(ask, TEXTS)
else:
    answers = list(eventlet.GreenPool(10).imap(ask, TEXTS))
if then != "kills":
    honeyhive_autoinstrument.flush(5)
answers += [ask(f"last {number}") for number in range(4)]
print("answered", answers.count("heard"), flush=True)
if then == "waits":
    time.sleep(60)
if then == "kills":

    class Killing(logging.Handler):
        def emit(self, record):
            os.kill(os.getpid(), signal.SIGTERM)

    logging.getLogger("honeyhive_autoinstrument").addHandler(Killing())
    honeyhive_autoinstrument.flush(5)
    time.sleep(60)
