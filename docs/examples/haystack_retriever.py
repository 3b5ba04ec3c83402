import sys

from haystack import Pipeline

from rlm.adapters.haystack import RaptorRetriever

index, question = sys.argv[1:]
pipeline = Pipeline()
pipeline.add_component("retriever", RaptorRetriever(index, k=3))
found = pipeline.run({"retriever": {"query": question}})
for document in found["retriever"]["documents"]:
    place = document.meta
    print(f"{place['doc']} {place['start']}-{place['end']}: {document.content[:100]!r}")
