"""What is sent, field by field: the schema behind docs/privacy.md, which a test holds against what the code writes. Pure.

A field that is new in an Event or a session's row is named here, or that test fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from honeyhive_autoinstrument.events.parameters import CONTENT, SETTINGS


@dataclass(frozen=True, slots=True)
class Field:
    """One field, or several that need the same words."""

    name: str
    """The field's; where `names` is given, what the row is called."""
    says: str
    """What it is and where it comes from, in a sentence."""
    holds_content: bool = False
    """Whether its text is withheld, or replaced by its length, with CAPTURE_CONTENT=false."""
    only_with: str | None = None
    """The setting, or the neighbour, that it takes for the field to be there."""
    names: frozenset[str] | None = None
    """Of a row for several fields; an empty one: names that are not ours to say."""

    @property
    def is_open(self) -> bool:
        """Whether the application, or a provider, gives the names."""
        return self.names is not None and not self.names

    @property
    def all_names(self) -> frozenset[str]:
        """The names of the fields that the row tells of, as far as they are known."""
        return frozenset({self.name}) if self.names is None else self.names


Fields = tuple[Field, ...]
NOT_OURS: frozenset[str] = frozenset()

RAW = "CAPTURE_RAW"
HEADERS = "CAPTURE_HEADERS"
PROXY = "the Proxy"
OTEL = "OpenTelemetry"
EVALUATE = "`honeyhive.evaluate`"
OPENINFERENCE = "OpenInference"


def names_in(fields: Iterable[Field]) -> frozenset[str]:
    """All names that these rows tell of."""
    return frozenset().union(*(field.all_names for field in fields))


def names_of_content(fields: Iterable[Field]) -> frozenset[str]:
    """The names of those whose text CAPTURE_CONTENT=false withholds."""
    return names_in(field for field in fields if field.holds_content)


EVENT: Fields = (
    Field("event_id", "A random UUID."),
    Field("session_id", "UUID of the session; one that you gave as another text is turned into a UUID by a hash."),
    Field("parent_id", "UUID of the event around it, or of the session."),
    Field("event_type", "`model`, `chain` or `tool`."),
    Field("event_name", "Which function of LiteLLM was called, for example `litellm.acompletion`."),
    Field("source", "The setting SOURCE."),
    Field("start_time", "When the call began, Unix milliseconds."),
    Field("end_time", "When it ended."),
    Field("duration", "Milliseconds between the two."),
    Field("config", "What the call was asked with; see below."),
    Field("inputs", "What the model was given; see below."),
    Field("outputs", "What came back; see below."),
    Field(
        "error", "Class and message of the exception; the class alone where contents are withheld.", holds_content=True
    ),
    Field("metadata", "Counts, times, ids and circumstances; see below."),
    Field("metrics", "What you add; see below."),
    Field("feedback", "What you add; see below."),
    Field("user_properties", "For whom the call was made; see below."),
)
"""Root fields of an Event (`POST /v1/events/batch`)."""

SESSION_ROW: Fields = (
    Field("session_id", "UUID of the session, as its events have it."),
    Field("session_name", "Your name or id of it; else the program's name, or that of the span or the Proxy's route."),
    Field("source", "The setting SOURCE."),
    Field("start_time", "When the session began, Unix milliseconds."),
    Field("metadata", "`original_session_id`, ATTRIBUTES, and what you gave to `session(metadata=...)`."),
    Field("user_properties", "What you gave to `session(user=..., user_properties=...)`."),
)
"""Fields of a session's row (`POST /v1/sessions`)."""

SETTINGS_WITH_WORDS = frozenset(
    {
        "response_format", "stop_sequences", "tool_choice", "function_call", "web_search_options", "text", "text_format",
        "search_domain_filter", "generation_config", "generationConfig", "retrieval_config", "language", "voice",
        "output_config", "toolConfig", "tool_config", "safetySettings", "safety_settings", "guardrailConfig",
        "context_management", "container", "conversation", "reasoning", "thinking", "audio",
    }
)  # fmt: skip
RENAMED_SETTINGS = frozenset({"stop", "max_completion_tokens", "config"})
SETTINGS_OF_ROUTER = frozenset(
    {
        "routing_strategy", "num_retries", "retry_policy", "model_group_retry_policy", "fallbacks", "default_fallbacks",
        "context_window_fallbacks", "content_policy_fallbacks", "max_fallbacks", "timeout", "stream_timeout",
        "allowed_fails", "allowed_fails_policy", "cooldown_time", "disable_cooldowns", "retry_after",
        "enable_pre_call_checks", "enable_tag_filtering",
    }
)  # fmt: skip

CONFIG: Fields = (
    Field("model", "The model asked for, as the call names it."),
    Field("provider", "The provider, as LiteLLM names it."),
    Field("tools", "Definitions of tools: names, descriptions, schemas.", holds_content=True),
    Field("functions", "The same in the older form.", holds_content=True),
    Field(
        "settings with words",
        "Arguments of the call that can hold words of yours. (`stop` is called `stop_sequences`, Google's `config`"
        " `generation_config`.)",
        holds_content=True,
        names=SETTINGS_WITH_WORDS,
    ),
    Field(
        "settings",
        "Other arguments that tune the call: numbers, switches, names. (`max_completion_tokens` is called"
        " `max_output_tokens`.)",
        names=SETTINGS - SETTINGS_WITH_WORDS - RENAMED_SETTINGS,
    ),
    Field(
        "settings of a Router",
        "How the Router is set up, on its own event; of fallbacks the names of the models.",
        names=SETTINGS_OF_ROUTER,
    ),
)

INPUTS: Fields = (
    Field(
        "chat_history",
        "Messages with role, content and parts, tool calls and results; system prompts and instructions, too (chat,"
        " Responses, Anthropic messages, generate_content).",
        holds_content=True,
    ),
    Field("chat_histories", "The same for each conversation of a batch.", holds_content=True),
    Field(
        "prompt",
        "The prompt, or the number of its token ids (text completion, images, video, transcription; Responses: a stored"
        " prompt's id and variables).",
        holds_content=True,
    ),
    Field("chunks", "The texts to embed, or the number of token ids of each.", holds_content=True),
    Field("query", "What is searched for (rerank, search).", holds_content=True),
    Field("nodes", "The documents to order (rerank).", holds_content=True),
    Field("input", "The text to speak, or to judge (speech, moderation).", holds_content=True),
    Field("file", "Of the recording to transcribe name, type, size and SHA-256.", holds_content=True),
    Field("image", "Of the image to begin with type, name, size and SHA-256; its link.", holds_content=True),
    Field("mask", "The same of the mask of an edit.", holds_content=True),
    Field("input_reference", "The same of what a video begins with.", holds_content=True),
    Field("video_id", "The provider's id of the video to work on.", holds_content=True),
    Field("document", "Link, or type, size and SHA-256, of the document to read (OCR).", holds_content=True),
    Field("response_id", "The provider's id of a stored response that is asked for.", holds_content=True),
    Field(
        "arguments of other operations",
        "What is asked, by the names of the arguments (decisions, extraction, systemone, interactions).",
        holds_content=True,
        names=CONTENT,
    ),
)

OUTPUTS: Fields = (
    Field("role", "`assistant`, as a rule."),
    Field("content", "The answer's text or parts.", holds_content=True),
    Field("finish_reason", "Why it ended, in the provider's word."),
    Field("tool_calls", "Tools that the model calls, with arguments.", holds_content=True),
    Field("function_call", "The same in the older form.", holds_content=True),
    Field("reasoning", "What the model shows of its thoughts.", holds_content=True),
    Field("thinking_blocks", "The same as blocks, with their signatures.", holds_content=True),
    Field("refusal", "The model's words where it declines.", holds_content=True),
    Field("annotations", "Citations and links.", holds_content=True),
    Field("logprobs", "Words of the answer with their probabilities.", holds_content=True),
    Field("items", "Other pieces of the answer: a provider's own tools and results.", holds_content=True),
    Field("provider_specific_fields", "What one provider adds, for example a guardrail's trace.", holds_content=True),
    Field("choices", "All answers, where there are several.", holds_content=True),
    Field("text", "Text of a completion or a transcription.", holds_content=True),
    Field("images", "Links and revised prompts of images; of bytes type, size and SHA-256.", holds_content=True),
    Field("audio", "Type, size and SHA-256 of speech, its transcript and id.", holds_content=True),
    Field("num_embeddings", "How many vectors came back; none of them is in here."),
    Field("dimensions", "Of the first vector."),
    Field("nodes", "What was found, or the documents in order: index, score, text.", holds_content=True),
    Field("flagged", "Whether a moderation objects."),
    Field(
        "results", "Each item's result: a batch's answers, a moderation's categories and scores.", holds_content=True
    ),
    Field("language", "Of a transcription.", holds_content=True),
    Field("duration", "Of a recording, seconds."),
    Field("segments", "Of a transcription: times and texts.", holds_content=True),
    Field("words", "The same, word by word.", holds_content=True),
    Field("pages", "Text of a document's pages; of their images type, size and SHA-256.", holds_content=True),
    Field("document_annotation", "What the model says of the whole document.", holds_content=True),
    Field("id", "The provider's id of a video job."),
    Field("progress", "Of that job, percent."),
    Field("created_at", "When it was ordered."),
    Field("expires_at", "When its result goes."),
    Field("status", "Of that job.", holds_content=True),
    Field("seconds", "Length that was ordered.", holds_content=True),
    Field("size", "Size that was ordered.", holds_content=True),
    Field("error", "Why the job failed; of a batch's item the class of its error.", holds_content=True),
    Field("result", "An answer that is no object.", holds_content=True),
    Field(
        "answers of other operations",
        "The answer by the names of its own fields (decisions, extraction, systemone, interactions).",
        holds_content=True,
        names=NOT_OURS,
    ),
)

USAGE: Fields = (
    Field("prompt_tokens", "Tokens of the input, as the provider or LiteLLM counts them."),
    Field("completion_tokens", "Tokens of the answer."),
    Field("input_tokens", "The same as `prompt_tokens`."),
    Field("output_tokens", "The same as `completion_tokens`."),
    Field("total_tokens", "All of them."),
    Field("cache_read_input_tokens", "Of the input, read from the provider's cache."),
    Field("cache_write_input_tokens", "Of the input, written to it."),
    Field("reasoning_tokens", "Of the answer, thought."),
    Field("audio_input_tokens", "Of the input, audio."),
    Field("audio_output_tokens", "Of the answer, audio."),
    Field("image_input_tokens", "Of the input, images."),
    Field("image_output_tokens", "Of the answer, images."),
    Field("search_units", "What a rerank is paid by."),
    Field("usage", "The usage as the provider or LiteLLM gave it."),
    Field("usage_source", "Who counted: `provider`, `litellm`, or `estimated` from the length of the texts."),
    Field("cost", "US dollars, as LiteLLM computes them."),
    Field("cost_source", "`response`, `price_table` or `cache`."),
    Field("cost_parts", "The cost by part, as LiteLLM has it."),
    Field("cache_hit", "True where LiteLLM answered from its cache."),
)

CALL: Fields = (
    Field("operation_name", "What kind of work, for example `chat`."),
    Field("call_type", "The function that was called."),
    Field("litellm_version", "LiteLLM's version."),
    Field("litellm_call_id", "LiteLLM's id of the call."),
    Field("litellm_trace_id", "The argument of that name."),
    Field("original_session_id", "The session's id as you gave it, where it is no UUID."),
    Field("trace_id", "Of the span around the call.", only_with=OTEL),
    Field("span_id", "Of the span around the call.", only_with=OTEL),
    Field("item", "Place in a batch."),
    Field("items", "How many items a batch has."),
    Field("ending", "`failed` or `cancelled`; on an event that could not be built, any ending."),
    Field("finish_reason", "As in `outputs`."),
    Field("stream_ending", "How a stream ended: completed, closed, cancelled, failed, abandoned."),
    Field("stream_chunks", "How many pieces came."),
    Field("time_to_first_token_ms", "Until the first piece with content."),
    Field("litellm_overhead_ms", "Time in LiteLLM itself, as it says."),
    Field("queue_time_ms", "How long the request waited there.", only_with=PROXY),
)

ANSWERED: Fields = (
    Field("provider", "The provider, as LiteLLM names it."),
    Field("response_model", "The model that served, as the answer says."),
    Field("response_id", "The provider's id of the answer."),
    Field("provider_request_id", "The provider's id of the request, from its response headers."),
    Field("system_fingerprint", "As the answer says."),
    Field("service_tier", "As the answer says."),
    Field("api_base", "The address that was asked, without user, password and keys."),
    Field("region", "The provider's region."),
    Field("provider_requests", "Requests that LiteLLM made for the call, where there were several."),
    Field("response_headers", "Response headers on a list: limits, request and organization ids.", only_with=HEADERS),
    Field("raw_request", "Address and body of the request as LiteLLM sent it.", holds_content=True, only_with=RAW),
    Field("raw_response", "The provider's answer as LiteLLM got it.", holds_content=True, only_with=RAW),
)

FAILED: Fields = (
    Field("error_type", "Class of the exception."),
    Field("error_module", "Where that class is from."),
    Field("error_code", "The provider's code."),
    Field("status_code", "The HTTP status."),
    Field("retry_after_s", "How long the provider asks to wait."),
    Field("error_debug_info", "LiteLLM's notes on the failure; they can quote the prompt.", holds_content=True),
)

ROUTED: Fields = (
    Field("attempts", "How many tries there were."),
    Field("attempted_retries", "How many of them were retries."),
    Field("attempted_fallbacks", "How many models or groups were fallen back to."),
    Field("fallback_path", "Groups in the order in which they were tried."),
    Field("winner_attempt", "Number of the try that answered."),
    Field("total_delay_ms", "Time between the tries."),
    Field("cooldowns", "Deployments that were put aside, by id, and for how long."),
    Field("attempt", "Number of this try."),
    Field("is_retry", "True on a retry."),
    Field("is_fallback", "True on a try in a fallback."),
    Field("fallback_depth", "How many groups were given up before."),
    Field("fallback_from", "The group that this one stands in for."),
    Field("fallback_reason", "Class of the error for which that one was given up."),
    Field("model_group", "The group of models, by its name in your configuration."),
    Field("original_model_group", "The group that was asked for."),
    Field("deployment", "The deployment's model."),
    Field("deployment_id", "Its id in your configuration."),
    Field("deployment_settings", "Its weight, order and limits."),
    Field("selection", "Ids of deployments that could be picked and could not, why, and an auto router's decision."),
    Field("delay_ms", "Time since the try before."),
    Field("cooldown_s", "For how long this failure put the deployment aside."),
)

ASKED_BY: Fields = (
    Field("virtual_key_hash", "SHA-256 of the virtual key; never the key.", only_with=PROXY),
    Field("virtual_key_alias", "Its name.", only_with=PROXY),
    Field("virtual_key_spend", "What it has cost.", only_with=PROXY),
    Field("virtual_key_max_budget", "What it may cost.", only_with=PROXY),
    Field("virtual_key_budget_reset_at", "When that begins anew.", only_with=PROXY),
    Field("team_id", "Team of the key.", only_with=PROXY),
    Field("team_alias", "Its name.", only_with=PROXY),
    Field("team_spend", "What it has cost.", only_with=PROXY),
    Field("team_max_budget", "What it may cost.", only_with=PROXY),
    Field("user_id", "User of the key.", only_with=PROXY),
    Field("user_email", "Their e-mail address.", only_with=PROXY),
    Field("user_spend", "What they have cost.", only_with=PROXY),
    Field("user_max_budget", "What they may cost.", only_with=PROXY),
    Field("organization_id", "Organization of the key.", only_with=PROXY),
    Field("organization_alias", "Its name.", only_with=PROXY),
    Field("project_id", "Project of the key.", only_with=PROXY),
    Field("project_alias", "Its name.", only_with=PROXY),
    Field("end_user_id", "For whom the client asks, as it says.", only_with=PROXY),
    Field("end_user_max_budget", "What they may cost.", only_with=PROXY),
    Field("tags", "Tags of the request, and of the key.", only_with=PROXY),
    Field("applied_guardrails", "Names of guardrails that looked at the request.", only_with=PROXY),
    Field("route", "Path of the request.", only_with=PROXY),
    Field("user_agent", "The client's `User-Agent`.", only_with=PROXY),
    Field("caller_ip", "The client's address.", only_with=f"{PROXY} and {HEADERS}"),
)

EXPERIMENT: Fields = (
    Field("run_id", "The experiment's run, from OpenTelemetry's baggage.", only_with=EVALUATE),
    Field("dataset_id", "Its data set.", only_with=EVALUATE),
    Field("datapoint_id", "Its data point.", only_with=EVALUATE),
)

YOURS: Fields = (
    Field(
        "keys of your own metadata",
        "What you pass to a call as `metadata` or `litellm_metadata`.",
        holds_content=True,
        names=NOT_OURS,
    ),
    Field("user_metadata", "Those keys of it that are named like one of ours.", holds_content=True),
    Field("keys of ATTRIBUTES", "What that setting says.", only_with="ATTRIBUTES", names=NOT_OURS),
    Field(
        "keys of `using_metadata`", "What you give to it.", holds_content=True, only_with=OPENINFERENCE, names=NOT_OURS
    ),
    Field("keys that you add", "By `enrich`, `update_event` or ENRICH.", names=NOT_OURS),
)

OWN_METADATA: Fields = (*USAGE, *CALL, *ANSWERED, *FAILED, *ROUTED)
"""Facts that are ours whatever runs."""

METADATA: Fields = (*OWN_METADATA, *ASKED_BY, *EXPERIMENT, *YOURS)

USER_PROPERTIES: Fields = (
    Field("user_id", "The argument `user`, `session(user=...)`, OpenInference's user, or the Proxy's."),
    Field("user_email", "As in `metadata`.", only_with=PROXY),
    Field("team_id", "As in `metadata`.", only_with=PROXY),
    Field("team_alias", "As in `metadata`.", only_with=PROXY),
    Field("keys that you add", "By `session`, `enrich`, `update_event` or ENRICH.", names=NOT_OURS),
)

METRICS: Fields = (Field("keys that you add", "By `enrich`, `update_event` or ENRICH.", names=NOT_OURS),)
FEEDBACK: Fields = METRICS

BUCKETS: Mapping[str, Fields] = {
    "config": CONFIG,
    "inputs": INPUTS,
    "outputs": OUTPUTS,
    "metadata": METADATA,
    "user_properties": USER_PROPERTIES,
    "metrics": METRICS,
    "feedback": FEEDBACK,
}
"""The parts of an Event that are JSON objects."""
