import sys

from rlm.adapters.langchain import RaptorRetriever

index, question = sys.argv[1:]
retriever = RaptorRetriever(index=index, k=3)
for document in retriever.invoke(question):
    place = document.metadata
    print(f"{place['doc']} {place['start']}-{place['end']}: {document.page_content[:100]!r}")
