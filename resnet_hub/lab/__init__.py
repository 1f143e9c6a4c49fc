"""The course's ideas as plain functions: numbers in, a frozen dataclass out, one module a topic.

Knows nothing of gradio, of drawing or of language. Modules import torch inside the functions that need it.
"""
