"""Media of inputs: what a client only named is fetched before the model sees the input, and never kept."""
