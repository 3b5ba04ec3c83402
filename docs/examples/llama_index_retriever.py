import sys

from index_store import IndexStoreError
from rlm.adapters.llama_index import RaptorRetriever

index, question = sys.argv[1:]
retriever = RaptorRetriever(index, k=3)
try:
    passages = retriever.retrieve(question)
except IndexStoreError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
for found in passages:
    place = found.metadata
    print(f"{place['doc']} {place['start']}-{place['end']}: {found.text[:100]!r}")
