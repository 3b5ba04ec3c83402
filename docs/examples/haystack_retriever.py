import sys

from haystack import Pipeline
from haystack.core.errors import PipelineRuntimeError

from index_store import IndexStoreError
from rlm.adapters.haystack import RaptorRetriever

index, question = sys.argv[1:]
pipeline = Pipeline()
pipeline.add_component("retriever", RaptorRetriever(index, k=3))
try:
    found = pipeline.run({"retriever": {"query": question}})
except PipelineRuntimeError as error:  # in which Haystack wraps what a component raises
    if not isinstance(error.__cause__, IndexStoreError):
        raise
    print(error.__cause__, file=sys.stderr)
    sys.exit(2)
for document in found["retriever"]["documents"]:
    place = document.meta
    print(f"{place['doc']} {place['start']}-{place['end']}: {document.content[:100]!r}")
