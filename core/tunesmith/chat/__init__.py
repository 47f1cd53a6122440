"""Talking to models: answers that grow token by token, of one model or of two side by side."""
