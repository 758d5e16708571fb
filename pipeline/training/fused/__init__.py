"""Decoder layers put together from their parts, with their backward pass written out: few, large kernels, nothing saved that is
cheap to compute again."""
