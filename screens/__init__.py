"""What a person sees: a room a screen, and what they share."""
