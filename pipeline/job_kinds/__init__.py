"""What a job's process can do, a module a kind: each has `handlers()`, the requests it answers. `child` is the process itself."""
