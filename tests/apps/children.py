"""Starts children in the way its argument says; each child asks once."""

import multiprocessing
import subprocess
import sys

import idle
import litellm


def ask(number):
    answer = litellm.completion(
        model="gpt-4o-mini", messages=[{"role": "user", "content": f"child {number}"}], mock_response=f"child {number}"
    )
    return answer.choices[0].message.content


if __name__ == "__main__":
    way = sys.argv[1]
    print(ask("parent"))
    idle.wait_for_litellm()
    if way == "subprocess":
        code = f"import sys; sys.path.insert(0, {sys.path[0]!r}); import children; print(children.ask(1))"
        print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    else:
        context = multiprocessing.get_context(way)
        with context.Pool(2) as pool:
            print(*pool.map(ask, [1, 2]))
            pool.close()
            pool.join()
        process = context.Process(target=ask, args=(3,))
        process.start()
        process.join()
        print(process.exitcode)
