"""The names by which spans tell of a run: OpenTelemetry's semantic conventions for generative AI, version 0.1.0, and
ours where these have none. They may change with a version of the conventions; nothing else has to."""

CONVENTIONS = "0.1.0"

# Operations: what a span is.
INVOKE_AGENT = "invoke_agent"
CHAT = "chat"
EXECUTE_TOOL = "execute_tool"
RETRIEVAL = "retrieval"

AGENT = "rlm"
TOOL = "python"

# Attributes of the conventions.
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
AGENT_NAME = "gen_ai.agent.name"
AGENT_VERSION = "gen_ai.agent.version"
CONVERSATION = "gen_ai.conversation.id"
DATA_SOURCE = "gen_ai.data_source.id"
REQUEST_MODEL = "gen_ai.request.model"
MAX_TOKENS = "gen_ai.request.max_tokens"
TEMPERATURE = "gen_ai.request.temperature"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_CALL = "gen_ai.tool.call.id"
ERROR_TYPE = "error.type"
# Contents: only where they are asked for.
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
QUERY = "gen_ai.retrieval.query.text"
DOCUMENTS = "gen_ai.retrieval.documents"
CONTENTS = frozenset({INPUT_MESSAGES, OUTPUT_MESSAGES, TOOL_ARGUMENTS, TOOL_RESULT, QUERY, DOCUMENTS})

# Ours: where in which trace a span is found again, and what has no name there.
HEAD = "raptor_rlm.head"
SEQ = "raptor_rlm.seq"
WHO = "raptor_rlm.conversation"
ROUTE = "raptor_rlm.route"
STOP = "raptor_rlm.stop"
USD = "raptor_rlm.usd"
CALLS = "raptor_rlm.calls"
VERB = "raptor_rlm.verb"
SHOWN = "raptor_rlm.shown"
PASSED = "raptor_rlm.not_taken"
ROWS = "raptor_rlm.rows"
FAILED = "raptor_rlm.failed"
ASKED_AGAIN = "raptor_rlm.asked_again"
STORED = "raptor_rlm.stored"
AGREEMENT = "raptor_rlm.agreement"
PASSAGES = "raptor_rlm.passages"
NOTES = "raptor_rlm.notes"
CITED = "raptor_rlm.cited"
UNFINISHED = "raptor_rlm.unfinished"

#: Providers by the first part of litellm's names of models; others keep that part.
PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
#: Providers of models that are named without one.
BARE = {
    "gpt": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "claude": "anthropic",
    "gemini": "gcp.gemini",
}
OTHER = "_OTHER"
