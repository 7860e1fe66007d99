"""Guards: facts about sources, the native tree that checks them, and the words for why one failed."""
