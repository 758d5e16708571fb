"""The parts screens are made of. Each draws what it is given and knows nothing of files, threads or runs."""
