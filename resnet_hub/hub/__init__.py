"""A checkpoint's files, in a directory or on the Hub: fetch, load, save, push, and the model card."""


def commit_of(revision: str | None) -> str | None:
    """The commit that a model's revision names; None for weights that are not from the Hub."""
    return None if revision in (None, "shipped", "local") else revision
