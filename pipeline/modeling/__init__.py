"""The model in torch: loaded, adapted, decoded from."""
