"""The file that Ollama makes a model from: the chat template in Go's language, found by asking it."""
