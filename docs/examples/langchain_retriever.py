import sys

from index_store import IndexStoreError
from rlm.adapters.langchain import RaptorRetriever

index, question = sys.argv[1:]
retriever = RaptorRetriever(index=index, k=3)
try:
    passages = retriever.invoke(question)
except IndexStoreError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
for document in passages:
    place = document.metadata
    print(f"{place['doc']} {place['start']}-{place['end']}: {document.page_content[:100]!r}")
