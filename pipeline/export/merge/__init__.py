"""Adapter and base in one set of weights, without a GPU: safetensors piece by piece with numpy alone, a GGUF loaded whole."""
