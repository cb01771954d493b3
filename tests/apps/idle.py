"""For programs that fork: waits for LiteLLM's logging threads. A fork in the middle of what they import leaves a child that
hangs on the import lock, with us or without (seen without, LiteLLM 1.110.2)."""

import time

from litellm.litellm_core_utils.thread_pool_executor import executor


def wait_for_litellm():
    while executor._idle_semaphore._value < len(executor._threads):
        time.sleep(0.01)
