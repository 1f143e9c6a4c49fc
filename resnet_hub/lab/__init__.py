"""The Lab's ideas as plain functions: numbers in, a frozen dataclass out, one module a topic.

Nothing here plots or writes text for a page. torch is imported inside the functions that need it.
"""
