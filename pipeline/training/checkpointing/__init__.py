"""What a checkpoint holds, when and how it is written."""
