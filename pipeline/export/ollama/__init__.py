"""A `Modelfile` for Ollama: the model's chat template in Go's language, found by asking it."""
