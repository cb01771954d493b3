"""Asks once more in an exit handler, after the main program is over; a stream is left half read."""

import atexit

import litellm


def last_words():
    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": "at exit"}], mock_response="bye")


atexit.register(last_words)
stream = litellm.completion(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "stream"}], mock_response="one two", stream=True
)
next(stream)
