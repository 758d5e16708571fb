"""What everything may use: errors, safe text, redaction, strict JSON, atomic files. Uses nothing of ours."""
