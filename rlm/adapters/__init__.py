"""An index as other programs take one: tools over MCP, and retrievers of LangChain, LlamaIndex and Haystack."""
