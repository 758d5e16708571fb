"""The model as one GGUF file, written without a GPU: tensors piece by piece with numpy, from safetensors or another GGUF."""
