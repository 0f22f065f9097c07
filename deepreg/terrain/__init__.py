"""Risk terrain models: the model, what it knows once fitted, and the search behind it."""
