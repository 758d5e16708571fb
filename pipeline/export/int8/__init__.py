"""Adapter and base in one model whose linear layers are held in eight bits, written from file to file with numpy."""
