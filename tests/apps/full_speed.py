"""So many calls, one straight after the other, of a LiteLLM whose provider is a stub. Prints, as JSON, what each call took,
the ledger, and what memory and disk were taken. With `bare` as the second argument the stub is called and nothing else.

After the calls it prints `called` and waits for a line on stdin; then what is left is delivered. In the file that PROGRESS
names stands how many calls have been made.
"""

import array
import contextlib
import gc
import json
import os
import subprocess
import sys
import time

import litellm

CALLS, IS_BARE = int(sys.argv[1]), sys.argv[2:] == ["bare"]
SAMPLE_EVERY = 1000
DELIVERED_WITHIN_S = 240.0
PAGE = os.sysconf("SC_PAGE_SIZE")
PROMPT = "a prompt of a realistic length " * 32

message = litellm.Message(content="An answer.", role="assistant")
choices = [litellm.Choices(finish_reason="stop", index=0, message=message)]
usage = litellm.Usage(prompt_tokens=10, completion_tokens=5, total_tokens=15)


def stub(model, messages, **kwargs):
    return litellm.ModelResponse(model=model, choices=choices, usage=usage)


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE


def bytes_below(folder):
    """Twice, and the smaller sum: files come and go while they are looked at, and one could count with its successor."""
    return min(sum(map(sizes_in, os.walk(folder))) for _ in range(2))


def sizes_in(place):
    total = 0
    for name in place[2]:
        with contextlib.suppress(OSError):
            total += os.stat(os.path.join(place[0], name)).st_size
    return total


class Samples:
    """What was looked at now and then. The program without us has none of it."""

    def __init__(self):
        self.spool = os.path.join(os.environ.get("HONEYHIVE_HOME", ""), "spool")
        self.resident = self.disk = 0
        self.unbalanced = []
        self.at_most = {"pending": 0, "spooled": 0}

    def take(self):
        self.resident = max(self.resident, resident())
        if IS_BARE:
            return
        self.disk = max(self.disk, bytes_below(self.spool))
        stats = honeyhive_autoinstrument.stats()
        if stats["created"] != sum(stats[part] for part in PARTS) + sum(stats["dropped"].values()):
            self.unbalanced.append(stats)
        for part in self.at_most:
            self.at_most[part] = max(self.at_most[part], stats[part])


PARTS = ("sent", "pending", "spooled", "rejected")
ask = stub
if not IS_BARE:
    import honeyhive_autoinstrument

    ask = litellm.completion
    ask.__wrapped__ = stub  # below our wrapper: what is left of LiteLLM is nothing

BYSTANDER = """
import os, time
parent, before = os.getppid(), time.monotonic()
while os.getppid() == parent:
    time.sleep(0.005)
    now = time.monotonic()
    if now - before > 0.1:
        print(before, now, flush=True)
    before = now
"""
"""Another process, which tells when it could not go on for a while, since nobody could."""
SLOW_NS = 500_000_000

took_ns = array.array("q", bytes(8 * CALLS))
samples = Samples()


def call(number):
    messages = [{"role": "user", "content": f"Call {number}: {PROMPT}"}]
    begin = time.perf_counter_ns()
    ask(model="gpt-4o", messages=messages)
    took_ns[number] = took = time.perf_counter_ns() - begin
    if took > SLOW_NS:
        slow.append((number, time.monotonic()))


def leave_out_standstills(gaps):
    """From what slow calls took: the parts of it in which the machine stood still."""
    for number, ended in slow:
        began = ended - took_ns[number] / 1e9
        still = sum(max(0.0, min(ended, until) - max(began, since)) for since, until in gaps)
        took_ns[number] -= int(still * 1e9)


def say_progress(number):
    with open(progress, "r+b") as file:
        file.write(b"%d" % number)


slow = []
progress = os.environ.get("PROGRESS")


# The first one loads what delivery needs; that is no growth.
call(0)
if not IS_BARE:
    honeyhive_autoinstrument.flush(10)
gc.collect()
before = resident()
bystander = subprocess.Popen([sys.executable, "-c", BYSTANDER], stdout=subprocess.PIPE, text=True)
started = time.perf_counter()
for number in range(1, CALLS):
    call(number)
    if number % SAMPLE_EVERY == 0:
        samples.take()
        if progress is not None:
            say_progress(number)
seconds = time.perf_counter() - started
samples.take()
bystander.kill()
leave_out_standstills([tuple(map(float, line.split())) for line in bystander.communicate()[0].splitlines()])

result = {"seconds": seconds, "first_us": took_ns[0] / 1000}
if not IS_BARE:
    result["after_the_calls"] = honeyhive_autoinstrument.stats()
    print("called", flush=True)
    sys.stdin.readline()
    deadline = time.monotonic() + DELIVERED_WITHIN_S
    while time.monotonic() < deadline:
        honeyhive_autoinstrument.flush(1)
        samples.take()
        stats = honeyhive_autoinstrument.stats()
        # What waits on disk goes out when the server answers, and stays where it is otherwise.
        if not stats["pending"] and not (stats["sent"] and stats["spooled"]):
            break
        time.sleep(0.05)
    result["delivery_seconds"] = time.monotonic() - deadline + DELIVERED_WITHIN_S
    honeyhive_autoinstrument.shutdown(10)
    samples.take()
    result["stats"] = honeyhive_autoinstrument.stats()

in_order = sorted(took_ns)
result["us"] = {
    name: in_order[min(int(CALLS * part), CALLS - 1)] / 1000
    for name, part in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0))
}
result["growth"] = samples.resident - before
result["disk"] = samples.disk
result["unbalanced"] = samples.unbalanced
result["at_most"] = samples.at_most
print(json.dumps(result))
