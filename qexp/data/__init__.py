"""Image data: where they come from (`datasets`) and how batches are made of them (`loader`)."""
