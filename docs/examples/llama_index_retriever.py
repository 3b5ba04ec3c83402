import sys

from rlm.adapters.llama_index import RaptorRetriever

index, question = sys.argv[1:]
retriever = RaptorRetriever(index, k=3)
for found in retriever.retrieve(question):
    place = found.metadata
    print(f"{place['doc']} {place['start']}-{place['end']}: {found.text[:100]!r}")
