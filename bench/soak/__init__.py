"""Does anything grow? An hour's work in minutes, and a verdict on every process and table."""
