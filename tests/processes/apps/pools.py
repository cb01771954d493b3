"""Pools and processes of the standard library, started in the way its argument says; each task asks once."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import idle
import litellm


def ask(text):
    litellm.completion(model="gpt-4o-mini", messages=[{"role": "user", "content": text}], mock_response="heard")
    return text


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ask("parent")
    idle.wait_for_litellm()
    with context.Pool(2) as pool:  # its exit ends the workers by SIGTERM
        print(*pool.map(ask, [f"pool {number}" for number in range(6)], chunksize=1), sep="\n")
    process = context.Process(target=ask, args=("process",))
    process.start()
    process.join()
    print("process" if process.exitcode == 0 else process.exitcode)
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        print(*executor.map(ask, [f"executor {number}" for number in range(3)]), sep="\n")
