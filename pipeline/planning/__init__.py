"""What a config will do here: kernels, memory, micro-batch, steps, time, room."""
