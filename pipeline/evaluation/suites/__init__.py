"""Did it forget? Questions of our own and of lm-eval, answered by base and tuned model."""
