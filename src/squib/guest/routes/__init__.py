"""The handlers of the HTTP contract, one file a noun, each loaded with its first request."""
