"""Embed many texts in batches, with progress; the model itself comes from `index_store.embedder`."""

from index_store.embedder import Embedder, load_embedder, load_tokenizer

__all__ = ["Embedder", "load_embedder", "load_tokenizer"]
