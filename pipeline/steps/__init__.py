"""The eight steps of a run, a file each with one public function."""
