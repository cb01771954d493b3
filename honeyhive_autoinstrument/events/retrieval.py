"""Embeddings, rerank, moderation, search: arguments and answers -> inputs and outputs. Pure.

Vectors become their number and dimension. Shapes of the responses: litellm_map.md 4.1, OpenAI's API reference (embeddings,
moderations), Cohere's (rerank). Shapes of the event: honeyhive_api.md 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from honeyhive_autoinstrument.events.facts import CallFacts
from honeyhive_autoinstrument.events.messages import Outputs, is_token_ids, text_or_count
from honeyhive_autoinstrument.events.values import field_of, list_of, plain_of, text_of, without_blobs, without_nothing


def embedding_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`chunks`: the texts, or the number of token ids of each."""
    given = arguments.get("input")
    chunks = given if isinstance(given, list) and not is_token_ids(given) else [given]
    return {"chunks": [without_blobs(text_or_count(each)) for each in chunks]}


def embedding_outputs(facts: CallFacts) -> Outputs:
    """`num_embeddings` and `dimensions`."""
    data = field_of(facts.result, "data") or []
    output: Outputs = {"num_embeddings": len(data)}
    vector = field_of(data[0], "embedding") if data else None
    if isinstance(vector, list):
        output["dimensions"] = len(vector)
    elif isinstance(vector, str):
        # base64 of 32-bit floats (OpenAI, encoding_format="base64")
        output["dimensions"] = (len(vector) * 3 // 4 - vector.count("=", -2)) // 4
    return output


def rerank_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`query`, and `nodes`: the documents to order."""
    return {"query": plain_of(arguments.get("query")), "nodes": plain_of(list_of(arguments.get("documents")))}


def rerank_outputs(facts: CallFacts) -> Outputs:
    """`nodes`, best first: index into the documents, score, text where it came back."""
    nodes = []
    for each in list_of(field_of(facts.result, "results")):
        node: dict[str, Any] = {"index": field_of(each, "index"), "score": field_of(each, "relevance_score")}
        document = field_of(each, "document")
        if document is not None:
            text = field_of(document, "text")
            node["content"] = plain_of(document) if text is None else text_of(text)
        nodes.append(node)
    return {"nodes": nodes}


def moderation_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be judged."""
    return {"input": without_blobs(plain_of(arguments.get("input")))}


MODERATION_FIELDS = ("flagged", "categories", "category_scores", "category_applied_input_types")


def moderation_outputs(facts: CallFacts) -> Outputs:
    """`flagged`: whether anything was; and each input's result."""
    results = [
        without_nothing({name: plain_of(field_of(each, name)) for name in MODERATION_FIELDS})
        for each in list_of(field_of(facts.result, "results"))
    ]
    return {"flagged": any(result.get("flagged") for result in results), "results": results}


def search_inputs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`query`."""
    return {"query": plain_of(arguments.get("query"))}


def search_outputs(facts: CallFacts) -> Outputs:
    """`nodes`: what was found."""
    found = field_of(facts.result, "results") or field_of(facts.result, "data")
    return {"nodes": [without_blobs(without_nothing(plain_of(each))) for each in list_of(found)]}
