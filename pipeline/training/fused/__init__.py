"""Decoder layers of the Llama family with their backward pass written out: few, large kernels, and nothing saved that is cheap to
compute again."""
