"""Many pools, one after the other, each of which ends its workers by SIGTERM just when they turn to the next task."""

import multiprocessing
import sys

import idle
import litellm


def answer(number):
    return number


if __name__ == "__main__":
    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": "parent"}], mock_response="heard")
    idle.wait_for_litellm()
    for _ in range(int(sys.argv[1])):
        with multiprocessing.get_context("fork").Pool(4) as pool:
            pool.map(answer, range(8), chunksize=1)
    print("all pools ended")
