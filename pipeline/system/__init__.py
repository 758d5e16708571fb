"""The machine: GPUs, CPU and memory, disks, locks, the login session; its faults and memory that runs out, known by name."""
