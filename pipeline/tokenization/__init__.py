"""From messages to ids and labels: templates, tokenizer, masks."""
