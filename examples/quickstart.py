"""An ordinary LiteLLM program, with nothing of HoneyHive in it. Needs no key and no network: every answer is mocked.

honeyhive-instrument python examples/quickstart.py
honeyhive-events show
"""

import json
import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing LiteLLM fetches its price list

import litellm
from litellm import Router, completion, embedding

litellm.suppress_debug_info = True

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def ask() -> None:
    answer = completion(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        temperature=0.2,
        mock_response="Paris.",
    )
    print("answer:", answer.choices[0].message.content)


def read_a_stream() -> None:
    chunks = completion(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "Count to five."}],
        stream=True,
        mock_response="one two three four five",
    )
    print("stream:", "".join(chunk.choices[0].delta.content or "" for chunk in chunks))


def use_a_tool() -> None:
    messages = [{"role": "user", "content": "How is the weather in Oslo?"}]
    first = completion(
        model="gpt-4o-mini",
        messages=messages,
        tools=TOOLS,
        mock_response="",
        mock_tool_calls=[
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": json.dumps({"city": "Oslo"})},
            }
        ],
    )
    messages.append(first.choices[0].message)
    messages.append({"role": "tool", "tool_call_id": "call_1", "content": "4 degrees, rain"})
    second = completion(
        model="gpt-4o-mini", messages=messages, tools=TOOLS, mock_response="Four degrees and rain in Oslo."
    )
    print("tool:", second.choices[0].message.content)


def embed() -> None:
    vectors = embedding(model="text-embedding-3-small", input=["red", "green"], mock_response=[0.1, 0.2, 0.3])
    print("embedding:", len(vectors.data[0]["embedding"]), "numbers")


def fall_back() -> None:
    router = Router(
        model_list=[
            {
                "model_name": "primary",
                "litellm_params": {"model": "gpt-4o", "mock_response": "litellm.InternalServerError"},
                "model_info": {"id": "east-1"},
            },
            {
                "model_name": "backup",
                "litellm_params": {"model": "gpt-4o-mini", "mock_response": "Here I am."},
                "model_info": {"id": "west-1"},
            },
        ],
        fallbacks=[{"primary": ["backup"]}],
        num_retries=0,
    )
    answer = router.completion(model="primary", messages=[{"role": "user", "content": "Anybody there?"}])
    print("router:", answer.choices[0].message.content)


if __name__ == "__main__":
    ask()
    read_a_stream()
    use_a_tool()
    embed()
    fall_back()
